"""Heads that have come before: an answer must not depend on whether its request's head was parsed or known."""

from itertools import pairwise

import pytest

from service.http.head_cache import HeadCache
from service.parsing.head import Head, Target
from service.policy import CACHED_HEAD_BYTES, CACHED_HEADS
from tests.service.pictures import png
from tests.service.served import Served
from tests.service.test_connections import checked, code
from tests.service.wire import Wire, get, post

HEAD = Head("POST", Target("/predict"), b"", {b"content-length": b"3"})


def test_a_known_head_before_a_body_of_another_length_is_parsed(server: Served) -> None:
    """The same head with less, more and other bytes in front: what is not exactly one message is left to the parser."""
    message = post(png())
    with Wire(server.address) as wire:
        for pieces in ((message,), (message[:-1], message[-1:]), (b"\r\n" + message,), (message,)):
            for piece in pieces:
                wire.send(piece)
            checked(wire.answer())
        wire.send(message + message)
        checked(wire.answer())
        assert wire.ended()  # what is pipelined behind a prediction is not read


@pytest.mark.parametrize(
    "message", [b"no end", b"short\r\n\r\nab", b"long\r\n\r\nabcd", b"x" * CACHED_HEAD_BYTES + b"\r\n\r\nabc"]
)
def test_what_is_not_exactly_one_message_of_a_short_head_is_not_remembered(message: bytes) -> None:
    heads = HeadCache()
    heads.remember(message, HEAD)
    assert not heads


def test_a_head_is_remembered_with_its_end_and_without_its_body() -> None:
    heads = HeadCache()
    heads.remember(b"head\r\n\r\nabc", HEAD)
    assert heads == {b"head\r\n\r\n": HEAD}


def test_a_head_that_declares_no_length_is_not_remembered() -> None:
    heads = HeadCache()
    heads.remember(b"chunked\r\n\r\nabc", Head("POST", Target("/predict"), b"", {}))
    assert not heads


def test_the_oldest_of_too_many_is_forgotten() -> None:
    heads = HeadCache()
    for i in range(CACHED_HEADS + 1):
        heads.remember(b"%d\r\n\r\nabc" % i, HEAD)
    assert list(heads) == [b"%d\r\n\r\n" % i for i in range(1, CACHED_HEADS + 1)]


def test_a_known_head_brings_each_body_its_own_answer(server: Served) -> None:
    bodies = [(seed, png(seed)) for seed in range(8)]
    with Wire(server.address) as wire:
        for _ in range(3):
            for seed, body in bodies:
                wire.send(post(body))
                checked(wire.answer(), seed)


def test_a_known_head_is_one_also_to_other_connections_and_when_it_comes_in_pieces(server: Served) -> None:
    message = post(png())
    cuts = [0, 10, message.index(b"\r\n\r\n") + 2, message.index(b"\r\n\r\n") + 4, len(message) - 1, len(message)]
    for _ in range(2):
        with Wire(server.address) as wire:
            wire.send(message)
            checked(wire.answer())
            for start, end in pairwise(cuts):
                wire.send(message[start:end])
            checked(wire.answer())
            wire.send(message)
            checked(wire.answer())


def test_what_is_asked_in_the_headers_is_asked_each_time(server: Served) -> None:
    with Wire(server.address) as wire:
        for _ in range(3):
            wire.send(post(png(), "/predict?top_k=0"))
            assert code(wire.answer()) == (400, "bad_request")
            wire.send(post(png(), "/predict", "X-Request-ID: mine"))
            assert checked(wire.answer()).headers["x-request-id"] == "mine"
            wire.send(post(png(1)))
            assert checked(wire.answer(), 1).headers["x-request-id"] != "mine"


def test_two_messages_in_one_piece_are_never_taken_for_one(server: Served) -> None:
    """The second's length must not be learnt as that of the first, whose head begins the piece."""
    body = png()
    probe, prediction = get("/livez"), post(body)
    padding = "X-Padding: " + "x" * 200
    with Wire(server.address) as wire:
        wire.send(probe + post(body, "/predict", padding))
        assert wire.answer().body == b"ok\n"
        assert wire.ended()  # what is pipelined is not read
    with Wire(server.address) as wire:
        wire.send(prediction)
        checked(wire.answer())
        wire.send(prediction + prediction)
        checked(wire.answer())
        assert wire.ended()
    with Wire(server.address) as wire:
        wire.send(probe)
        assert wire.answer().body == b"ok\n"


@pytest.mark.parametrize("header", ["Connection: close", "Expect: 100-continue"])
def test_a_connection_ends_or_goes_on_as_its_client_says_each_time(server: Served, header: str) -> None:
    for _ in range(2):
        with Wire(server.address) as wire:
            wire.send(post(png(), "/predict", header))
            answer = wire.answer()
            if answer.status == 100:
                answer = wire.answer()
            checked(answer)
            if header == "Connection: close":
                assert wire.ended()
