"""The outbox: what is put in while a batch's responses are gathered leaves together, and is counted behind it."""

from functools import partial

import pytest

from service.batching.outbox import Outbox
from service.policy import GATHERED_RESPONSES


class Post:
    """Responses of an outbox, and what has been done with them."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.done: list[str] = []

    def put(self, name: str) -> None:
        self.outbox.put(partial(self.done.append, f"{name} written"), partial(self.done.append, f"{name} counted"))


def test_a_lone_response_leaves_at_once() -> None:
    post = Post()
    post.put("a")
    assert post.done == ["a written", "a counted"]
    post.put("b")
    assert post.done == ["a written", "a counted", "b written", "b counted"]


def test_what_is_gathered_leaves_together_in_its_order_and_is_counted_then() -> None:
    post = Post()
    with post.outbox.gather():
        post.put("a")
        post.put("b")
        assert post.done == []
    assert post.done == ["a written", "b written", "a counted", "b counted"]
    post.put("c")
    assert post.done[4:] == ["c written", "c counted"]


def test_many_do_not_wait_for_all() -> None:
    post = Post()
    with post.outbox.gather():
        for number in range(GATHERED_RESPONSES):
            assert post.done == []
            post.put(str(number))
        assert len(post.done) == 2 * GATHERED_RESPONSES
        post.put("the next")
        assert len(post.done) == 2 * GATHERED_RESPONSES
    assert post.done[-2:] == ["the next written", "the next counted"]


def test_an_error_between_loses_no_response() -> None:
    post = Post()

    def fail() -> None:
        with post.outbox.gather():
            post.put("a")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert post.done == ["a written", "a counted"]
