"""Clients that send a byte a second: they keep no other client from being answered, and are not waited for long."""

import json

import pytest

from tests.faults.crowd import Crowd
from tests.faults.ledger import load
from tests.service.pictures import png
from tests.service.served import Servers, until
from tests.service.wire import post

DAWDLERS, OTHERS = 300, 2
SLOTS = OTHERS + 1  # a request that finds none free is refused at its headers
TIMEOUT_S = "4"  # long enough for all of them to be there at once
REQUEST = post(png())
HEAD = REQUEST[: -len(png())]

INFLIGHT = "resnet_inflight_requests"
TIMED_OUT_BODY = 'resnet_http_requests_total{code="408",method="POST",route="/predict"}'
TIMED_OUT_HEADERS = 'resnet_http_requests_total{code="408",method="other",route=""}'


def check_timeout(got: bytes) -> None:
    """Fail unless this is one answer, and it is 408."""
    head, _, body = got.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 "), got
    assert json.loads(body)["code"] == "request_timeout"


@pytest.mark.parametrize(
    ("at_once", "slowly", "waiting", "counted"),
    [(b"", REQUEST, 0, TIMED_OUT_HEADERS), (HEAD, png(), DAWDLERS, TIMED_OUT_BODY)],
    ids=["headers", "body"],
)
def test_hundreds_of_slow_clients_hold_no_slot_and_end_with_408(
    serve: Servers, at_once: bytes, slowly: bytes, waiting: int, counted: str
) -> None:
    """The server has slots for three images, of which two other clients use two all the time."""
    limits = (
        "--api-processes",
        "1",
        "--queue-capacity",
        str(SLOTS),
        "--header-timeout",
        TIMEOUT_S,
        "--body-timeout",
        TIMEOUT_S,
    )
    served = serve("--workers", "1", *limits).ready()
    with load(served, connections=OTHERS) as ledger:
        crowd = Crowd(served.address, DAWDLERS, at_once, slowly)
        until(lambda: served.metrics()[INFLIGHT] >= waiting, "all to be there")
        ledger.wait_for(50)
        got = crowd.join()
        ledger.wait_for(50)
    for one in got:
        check_timeout(one)
    assert set(ledger.summary()) == {(200, "")}
    samples = served.metrics()
    assert samples[counted] == DAWDLERS
    assert samples[INFLIGHT] == 0
