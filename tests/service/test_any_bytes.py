"""Any bytes, cut anywhere: the protocol on a transport that keeps what is written."""

import asyncio
import logging
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from uvicorn.server import ServerState

from service.http.connection_state import ConnectionState
from service.http.protocol import PredictionProtocol
from service.parsing.head import Head
from service.prediction.problem_log import ProblemLog, problem_log
from service.prediction.request import PredictionRequest
from service.routes.routes import add_routes
from tests.service.pictures import png
from tests.service.test_walk import House
from tests.service.wire import get, post

JSON, FORM = "Content-Type: application/json", "Content-Type: multipart/form-data; boundary=q"
CHUNKED = get("/predict", "Transfer-Encoding: chunked", method="POST") + b"%x\r\n%s\r\n0\r\n\r\n" % (len(png()), png())
MESSAGES = [
    post(png()),
    post(png(1), "/predict?top_k=1"),
    post(b"", "/predict"),
    post(b"no image", "/models/plain/predict"),
    post(png(), "/models/zebra/predict"),
    post(png(), "http://server/predict"),
    post(png(), "/predict", "X-Request-Timeout-Ms: none"),
    post(b'{"images": ["AAAA", 7]}', "/predict", JSON),
    post(b"--q\r\n\r\n\r\n--q--\r\n", "/predict", FORM),
    post(png(), method="DELETE"),
    post(png(), "/predict", "Connection: close"),
    post(png(), "/predict", "Expect: 100-continue"),
    post(png(), "/predict", "Connection: Upgrade", "Upgrade: h2c"),
    post(png()).replace(b"HTTP/1.1", b"HTTP/1.0"),
    post(png(), "/livez"),
    CHUNKED,
    CHUNKED.replace(b"chunked", b"gzip, chunked"),
    get("/livez"),
    get("/livez", "Connection: Upgrade", "Upgrade: h2c"),
    get("/nowhere", method="HEAD"),
    get("/livez", "Host: other"),
    get("*", method="OPTIONS"),
    get("server:80", method="CONNECT"),
    b"\r\n",
    b"\x16\x03\x01\x00garbage\r\n\r\n",
]
PIECES = (
    st.sampled_from(MESSAGES)
    | st.binary(max_size=40)
    | st.sampled_from(MESSAGES).flatmap(lambda message: st.integers(0, len(message)).map(lambda end: message[:end]))
)
STREAMS = st.lists(PIECES, max_size=4).map(b"".join)


class Recorder(asyncio.Transport):
    """A transport that keeps what is written, and fails for what is written behind its end."""

    def __init__(self) -> None:
        super().__init__({"peername": ("client", 1), "sockname": ("server", 2)})
        self.written = b""
        self.closed = self._ended = False

    def write(self, data: bytes) -> None:  # type: ignore[override]
        assert not self._ended, data
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Nothing may be written any more."""
        self._ended = True

    def close(self) -> None:
        """A loop would close it once all is written."""
        self.closed = self._ended = True

    abort = close

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        """What is given nevertheless is as if it had been read before."""

    def resume_reading(self) -> None:
        """As `pause_reading`."""

    @property
    def statuses(self) -> list[int]:
        """Of every response, also of one that is only provisional."""
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", self.written)]


class Scene:
    """An API process and a worker, in a loop that runs when it is asked to; connections are recorders."""

    def __init__(self, repository: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._failures: list[object] = []
        self.loop.set_exception_handler(lambda _, context: self._failures.append(context))
        self.house: House = self.loop.run_until_complete(self._begin(repository))
        self.admission = self.house.api.services.admission
        self._bytes = self.admission.bytes_left

    async def _begin(self, repository: Path) -> House:
        house = House(repository)
        add_routes(house.protocol.config.app, lambda: house.api)  # type: ignore[arg-type]
        await house.work_until(lambda: house.api.ready)
        house.protocol.connection_lost(None)  # its own client knows no timers
        return house

    def close(self) -> None:
        """End it."""
        self.house.api.close()
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    def answers(self, pieces: Sequence[bytes]) -> list[int]:
        """Statuses of what a client gets that sends these pieces, all before the loop turns, and then leaves.

        Each request must have ended once by then, each response be counted once, and nothing be held. A refusal that
        still waited for the end of its request's body is counted, too.
        """
        before, handler = self._counts(), _Failures(self._failures)
        logging.getLogger("uvicorn.error").addHandler(handler)
        with capture_logs() as logs:
            statuses = self.loop.run_until_complete(asyncio.wait_for(self.ask(pieces), 60))
        logging.getLogger("uvicorn.error").removeHandler(handler)
        assert self._failures == []
        assert [record for record in logs if record["log_level"] == "error"] == []
        responses, predictions, inflight = (now - then for now, then in zip(self._counts(), before, strict=True))
        assert (responses, inflight) == (sum(status >= 200 for status in statuses) + self._unsent, 0)
        assert predictions == self._begun
        assert self.admission.bytes_left == self._bytes
        return statuses

    async def ask(self, pieces: Sequence[bytes]) -> list[int]:
        """The statuses alone."""
        recorder, self._begun = Recorder(), 0
        protocol = PredictionProtocol(config=self.house.protocol.config, server_state=ServerState(), app_state={})
        protocol.connection_made(recorder)
        begin = protocol._begin_request

        def count_begun(head: Head, state: ConnectionState) -> PredictionRequest:
            self._begun += 1
            return begin(head, state)

        protocol._begin_request = count_begun  # type: ignore[method-assign]
        for piece in pieces:
            if not recorder.closed:
                protocol.data_received(piece)
        await self.house.work_until(
            lambda: (
                (protocol._request is None or protocol._state is ConnectionState.BODY)
                and (recorder.closed or not (protocol.tasks or protocol.pipeline))
            )
        )
        self._unsent = int(protocol._early is not None)
        protocol.connection_lost(None)
        await self.house.work_until(lambda: len(self.admission._free) == self.admission.capacity)
        return recorder.statuses

    def _counts(self) -> tuple[float, float, float]:
        """Responses and prediction requests that have been counted, and requests in flight."""
        sums: dict[str, float] = {}
        for family in self.house.api.metrics.collect():
            for sample in family.samples:
                sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
        names = "resnet_http_requests_total", "resnet_requests_total", "resnet_inflight_requests"
        responses, predictions, inflight = (sums.get(name, 0.0) for name in names)  # none before the first
        return responses, predictions, inflight


class _Failures(logging.Handler):
    """Keeps what uvicorn says of exceptions in an application."""

    def __init__(self, failures: list[object]) -> None:
        super().__init__(logging.ERROR)
        self._failures = failures

    def emit(self, record: logging.LogRecord) -> None:
        self._failures.append(record.getMessage())


@pytest.fixture(scope="module")
def scene(repository: Path) -> Iterator[Scene]:
    problem_log.flush(all_=True)  # what other tests have left in it is no error of these
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.http.read_budget.TURN_NS", 1 << 62)  # data waits for another turn on no machine
        scene = Scene(repository)
        yield scene
        scene.close()


def cut(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    """The stream in pieces, cut at these places where it is as long."""
    places = sorted({0, len(stream), *(at % (len(stream) + 1) for at in cuts)})
    return [stream[start:end] for start, end in pairwise(places)]


@settings(max_examples=200)
@given(STREAMS, st.lists(st.integers(0, 1000), max_size=5))
@example(b"".join(MESSAGES[:3]), [1, 2, 3])
@example(post(png()) + b"\x00garbage", [])
@example(get("/livez") + b"\x00garbage", [])
@example(b"DELETE /predict HTTP/1.1\r\nHost: server\r\nContent-Length: 140\r\n\r\n", [])
def test_an_answer_does_not_depend_on_cuts(scene: Scene, stream: bytes, cuts: list[int]) -> None:
    """A plain head that comes whole is read without the parser of HTTP, and one that comes in pieces with it."""
    whole = scene.answers([stream])
    for pieces in (cut(stream, cuts), [stream[at : at + 1] for at in range(len(stream))]):
        assert scene.answers(pieces) == whole


@pytest.mark.parametrize("message", MESSAGES, ids=range(len(MESSAGES)))
def test_each_message_is_answered_or_nothing(scene: Scene, message: bytes) -> None:
    """Once, or not at all if it is empty; twice with a word to continue."""
    statuses = scene.answers([message])
    assert len([status for status in statuses if status >= 200]) == bool(message.strip())
    assert scene.answers([message[:1], message[1:]]) == statuses


@pytest.mark.parametrize("name", ["service.batching.admission.Admission.check", "service.http.protocol.parse_target"])
@pytest.mark.parametrize("is_whole", [False, True])
def test_an_error_of_our_own_is_500_and_logged(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, name: str, is_whole: bool
) -> None:
    """Not 400: the parser of HTTP takes what a callback raises for an error of what it parses."""

    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("ours")

    message = MESSAGES[0]
    monkeypatch.setattr(name, fail)
    monkeypatch.setattr("service.prediction.response.problem_log", ProblemLog())  # which has told nothing yet
    with capture_logs() as logs:
        statuses = scene.loop.run_until_complete(scene.ask([message] if is_whole else [message[:9], message[9:]]))
    if is_whole and name.endswith("parse_target"):
        assert statuses == [200]  # a plain head is not parsed
        return
    assert statuses == [500]
    failures = [record for record in logs if record["event"] == "request failed"]
    assert [type(record["exc_info"]) for record in failures] == [ZeroDivisionError]
    assert failures[0]["request_id"]
    monkeypatch.undo()
    assert scene.answers([message]) == [200]
