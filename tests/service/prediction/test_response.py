"""Responses: what a result and each error become, and what is told of time."""

import json
import re

import pytest

import service.errors
from service.batching.image_task import Result
from service.errors import SHED_REASONS, MethodNotAllowed, ServiceError, TooManyRequests, Unavailable, UnsupportedCoding
from service.parsing.head import Head, Target
from service.prediction.response import Response, Timestamps, begin_response

STAGES = ("read", "decode", "queue", "inference", "respond")
LABELS = ("ant", "bee", "cat")
# name, status and code of each error, as drawn at the head of the module
TREE = re.findall(r"── (\w+) +(\d{3}) +(\w+|\(reason: .*\))", str(service.errors.__doc__))


def begin(**headers: str) -> Response:
    """The response to a request with these fields, whose names are written with underscores."""
    fields = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return begin_response(Head("POST", Target("/predict"), b"", fields), 0)


def errors() -> dict[str, type[ServiceError]]:
    """Every class of error that there is."""
    return {one.__name__: one for one in ServiceError.__subclasses__()}


def make(kind: type[ServiceError]) -> ServiceError:
    if kind is Unavailable:
        return Unavailable("worker_lost", "what happened", retry_after_s=7)
    if kind is TooManyRequests:
        return TooManyRequests("what happened", retry_after_s=9, key="alice")
    if kind in (MethodNotAllowed, UnsupportedCoding):
        return kind("BREW", ("GET", "PUT"))  # type: ignore[call-arg]
    return kind("what happened")


def test_every_error_is_drawn() -> None:
    assert {name for name, _, _ in TREE} == errors().keys()
    (reasons,) = [code for name, _, code in TREE if name == "Unavailable"]
    assert reasons == f"(reason: {', '.join(SHED_REASONS)})"


@pytest.mark.parametrize(("name", "status", "code"), TREE, ids=[name for name, _, _ in TREE])
def test_an_error_becomes_the_problem_that_is_drawn(name: str, status: str, code: str) -> None:
    response, error = begin(x_request_id="mine"), make(errors()[name])
    response.fail(error)
    document = json.loads(response.body)
    assert (response.status, document["status"]) == (int(status), int(status))
    assert document["code"] == ("unavailable" if name == "Unavailable" else code)
    assert re.fullmatch(r"[A-Z][a-z]+( [a-z]+)*", document["title"])  # words, no name of a class
    assert document["request_id"] == response.headers["x-request-id"] == "mine"
    assert response.headers["content-type"] == "application/problem+json"
    assert (document["detail"] == str(error)) == (name != "InternalError")  # which tells nothing of our own faults


def test_what_a_client_can_do_stands_in_the_headers() -> None:
    unavailable, not_allowed, coded, limited = begin(), begin(), begin(), begin()
    unavailable.fail(make(Unavailable))
    not_allowed.fail(make(MethodNotAllowed))
    assert (unavailable.headers["retry-after"], json.loads(unavailable.body)["reason"]) == ("7", "worker_lost")
    assert unavailable.shed == "worker_lost"
    assert not_allowed.headers["allow"] == "GET, PUT"
    assert not_allowed.shed is None
    coded.fail(UnsupportedCoding("bzip2", ("gzip", "br")))
    assert coded.headers["accept-encoding"] == "gzip, br"
    limited.fail(make(TooManyRequests))
    assert limited.headers["retry-after"] == "9"


def test_an_unknown_exception_tells_nothing_of_itself() -> None:
    response = begin()
    response.fail(KeyError("secret"))
    assert (response.status, json.loads(response.body)["code"]) == (500, "internal_error")
    assert b"secret" not in response.body


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "ok"),
        (400, "client_error"),
        (422, "client_error"),
        (431, "client_error"),
        (500, "server_error"),
        (503, "shed"),
        (504, "expired"),
    ],
)
def test_the_metrics_call_a_status(status: int, outcome: str) -> None:
    assert Response(Timestamps(0), "id", "POST", status=status).outcome == outcome


def test_each_stage_lies_between_two_stamps_and_all_make_up_the_total() -> None:
    stamps = Timestamps(headers_ns=1, body_ns=11, pixels_ns=111, taken_ns=1111, done_ns=11_111, written_ns=111_111)
    assert stamps.stages_ns() == (10, 100, 1000, 10_000, 100_000)
    assert stamps.total_ns == sum(stamps.stages_ns())


def test_results_are_rendered_with_their_labels_and_times() -> None:
    response = begin()
    response.model, response.version = "m", "3"
    response.timestamps = Timestamps(0, 1_000_000, 3_000_000, 6_000_000, 10_000_000, 10_500_000)
    response.succeed([Result([2, 0], [0.75, 0.25], 4, 0, 0)], LABELS)
    timings = {"read": 1.0, "decode": 2.0, "queue": 3.0, "inference": 4.0, "respond": 0.5, "total": 10.5}
    assert json.loads(response.body) == {
        "request_id": response.headers["x-request-id"],
        "model": "m",
        "version": "3",
        "predictions": [
            {"label": "cat", "index": 2, "probability": 0.75},
            {"label": "ant", "index": 0, "probability": 0.25},
        ],
        "batch_size": 4,
        "timings_ms": timings,
    }
    parts = [part.partition(";dur=") for part in response.headers["server-timing"].split(", ")]
    assert {name: float(ms) for name, _, ms in parts} == timings
    assert response.tops == [("cat", 0.75)]


def test_requests_without_an_id_get_one_each() -> None:
    ids = [begin().request_id for _ in range(100)]
    assert len(set(ids)) == 100
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in ids)


def test_a_trace_goes_back_as_it_came() -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert begin(traceparent=trace).headers["traceparent"] == trace
    assert "traceparent" not in begin().headers
