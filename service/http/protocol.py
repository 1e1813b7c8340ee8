"""One HTTP connection: uvicorn's protocol, from which prediction requests leave for a `PredictionRequest`."""

import time
from typing import Any

import httptools
import structlog

from service.errors import BadRequest, HeadersTooLarge, ServiceError
from service.http.connection import HttpConnection
from service.http.connection_state import ANSWERING, BODY, BODY_ENDED, CLOSING, HEAD, IDLE, LAST, NEXT, ConnectionState
from service.http.framing import check_head, to_origin_form, without_offer
from service.http.read_budget import ReadBudget
from service.parsing.head import Head, Target, is_inference_path, parse_target, read_plain, without_prefix
from service.policy import AWAITED_BODY_BYTES, PARSED_BYTES, PIECE_BYTES
from service.prediction.inference_response import InferenceResponse
from service.prediction.request import PredictionRequest, RequestState
from service.prediction.response import Response, begin_response

log = structlog.get_logger()

MAX_HEAD_BYTES = 64 << 10  # bound on the request line and header fields of one request; nginx allows 32 KiB

_MOST_PROBE_BYTES = 1 << 10
_PROBES = (b"GET /livez", b"HEAD /livez", b"GET /readyz", b"HEAD /readyz", b"GET /metrics")


def _headers_too_large() -> HeadersTooLarge:
    return HeadersTooLarge(f"the request line and headers are over the limit of {MAX_HEAD_BYTES} bytes")


class PredictionProtocol(HttpConnection):
    """Prediction requests leave for a `PredictionRequest` once their headers are complete, others go on to FastAPI.

    What is pipelined behind a prediction is not read: the connection closes after the response, and the client sends it
    again (RFC 9112, 9.3.2).
    """

    __slots__ = ("_begun", "_body_left", "_budget", "_fresh", "_head_bytes", "_prefix", "_unparsed_bytes")

    predicts = True

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(*args, **kwargs)
        state = self.config.app.state  # type: ignore[union-attr]
        self.url, self.headers = b"", []
        self._prefix: bytes = self.config.app.root_path.encode()  # type: ignore[union-attr]
        self._budget: ReadBudget = state.budget
        self._head_bytes = 0  # of the target and the fields that are parsed
        self._unparsed_bytes = 0  # of data that held nothing but a part of the head
        self._body_left = 0  # bytes of a body that needs no parser, since its head was plain
        self._begun = False  # a message began in the data that is being parsed
        self._fresh = False  # it began with the data, and its head is incomplete

    def _enter(self, state: ConnectionState) -> None:
        """Go to another state; the time that the former one had is forgotten."""
        assert state in NEXT[self._state], f"from {self._state.name} to {state.name}"
        self._state = state
        if self._timeout.runs:
            self._timeout.stop()
        if state is IDLE or state is CLOSING:
            self._idle_since_s = self.loop.time()

    # Data

    def data_received(self, data: bytes) -> None:
        """Take what came, now or in another turn of the loop."""
        if (self._budget.note_arrival() and not self._held) or (self._is_quick(data) and not self._deferred):
            self._take(data)
        else:
            self._deferred += 1
            self._budget.defer(self.transport, self._take_deferred, data, pause=self._deferred > 1)

    def _take_deferred(self, data: bytes) -> None:
        """Take what came in a former turn of the loop, and the end of the data that came behind it."""
        self._deferred -= 1
        if self._held:
            self._held += data
        else:
            self._take(data)
        if (self._held or self.flow.write_paused) and not self.transport.is_closing():
            self.flow.pause_reading()
            self.transport.pause_reading()  # the budget has had it resumed
        if self._eof_waits and not self._deferred:
            self._eof_waits = False
            if not self.eof_received():
                self.transport.close()

    def _is_quick(self, data: bytes) -> bool:
        """Whether to take this keeps no other waiting: it is one probe's, or there is more of a body to come."""
        if self._request:
            return self._request.missing_bytes > len(data)
        return self._state is IDLE and len(data) <= _MOST_PROBE_BYTES and data.startswith(_PROBES)

    def _take(self, data: bytes) -> None:
        """Take what came, piece by piece; if a message is incomplete after it, the rest has to come in time."""
        while data and self._state is not CLOSING and self._state is not LAST:
            try:
                rest = self._take_piece(data)
            except httptools.HttpParserCallbackError as error:
                self._fail(error.__context__ or error)  # what one of our own callbacks raised
                return
            except Exception as error:
                self._fail(error)
                return
            if self._state in (HEAD, BODY) and not self.transport.is_closing():
                self._await_rest(len(data) - len(rest))
            if rest and not self._goes_on(rest):
                self._deferred += 1
                self._held = rest
                self._release_held()
                return
            data = rest

    def _take_piece(self, data: bytes) -> bytes:
        """Take the first piece of what came; what is behind it."""
        is_fresh, cycle = self._state is IDLE, self.cycle
        if self._body_left:
            piece = data[: self._body_left]
            self._take_body(piece)
        elif is_fresh and self._keep_alive and (cycle is None or cycle.response_complete) and self._take_plain(data):
            return b""
        else:
            most = PARSED_BYTES if self._state is BODY else PIECE_BYTES
            piece = data if self._is_quick(data) else data[:most]
            self._fresh, self._begun = is_fresh, False
            self._parse(piece)
        return data[len(piece) :]

    def _goes_on(self, rest: bytes) -> bool:
        """Whether the rest of what came is taken in this turn, too."""
        if self.pipeline or self.flow.write_paused:
            return False
        return self._is_quick(rest) if self._state is BODY else self._budget.has_time

    def _release_held(self) -> None:
        """Go on with the rest of what came, once what came before it is answered and the client has read that."""
        if self._held and not self.pipeline and not self.flow.write_paused:
            held, self._held = self._held, b""
            self._budget.put_back(self.transport, self._take_deferred, held)

    def _parse(self, data: bytes) -> None:
        """Parse what came; a message that offers another protocol, h2c say, is taken as if it did not."""
        rest: bytes | memoryview = data
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as upgrade:
                end = upgrade.args[0]
            if self._state is not HEAD:
                return
            head = without_offer(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
            self._enter(IDLE)
            self._fresh = False
            self.parser.feed_data(head)
            rest = memoryview(rest)[end:]  # no copy for each of thousands of such messages

    def _take_plain(self, data: bytes) -> bool:
        """Take exactly one prediction request that needs no parser, or the beginning of one; False for all else."""
        message = read_plain(data)
        if message is None:
            return False
        self.expect_100_continue, self._pace = False, None
        self._body_left = message.missing_bytes
        request = self._begin_request(message.head, BODY if self._body_left else ANSWERING)
        request.feed(message.body)
        if not self._body_left:
            request.complete()  # may respond at once
        return True

    def _take_body(self, part: bytes) -> None:
        """Take more of the body of a request that needs no parser."""
        assert self._request is not None
        self._body_left -= len(part)
        self._request.feed(part)
        if not self._body_left:
            self._complete_request(self._request)

    def _await_rest(self, received: int) -> None:
        """Give the rest of a message its time, and its head a bound."""
        if self._state is BODY:
            self._await_body(received, self._budget.arrived_ns)
            return
        if self._fresh or not self._begun:
            self._unparsed_bytes += received
        if self._unparsed_bytes > MAX_HEAD_BYTES:
            self._refuse(_headers_too_large())
        else:
            self._await_head()

    # What the parser finds

    def on_message_begin(self) -> None:
        """A message begins, its first byte has come."""
        if self._state is ANSWERING:
            self._enter(LAST)
            self._keep_alive = False
            self.flow.pause_reading()
        elif self._state is IDLE:
            self._enter(HEAD)
            self._head_bytes = self._unparsed_bytes = 0
            self._begun, self._pace = True, None
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Part of the request's target."""
        if self._state is HEAD:
            self._head_bytes += len(url)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise _headers_too_large()
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field; blanks behind its value are no part of it (RFC 9112, 5.1)."""
        if self._state is HEAD:
            self._head_bytes += len(name) + len(value)
            if self._head_bytes > MAX_HEAD_BYTES:
                raise _headers_too_large()
            super().on_header(name, value.rstrip(b" \t"))

    def on_headers_complete(self) -> None:
        """Choose what answers: a prediction request or FastAPI."""
        if self._state is not HEAD:
            return
        method, version = self.parser.get_method(), self.parser.get_http_version()
        check_head(method, version, self.headers)
        if self.parser.should_upgrade():
            return
        if version == "1.0":
            self.expect_100_continue = False  # RFC 9110, 10.1.1
        self._fresh = False  # another message in the data does not begin it
        self.url = to_origin_form(method, self.url)
        url = httptools.parse_url(self.url)
        path = without_prefix(url.path, self._prefix)
        target = parse_target(path) if self.predicts and method != b"OPTIONS" else None
        if target is None:
            super().on_headers_complete()
            self.cycle.transport = self._joined  # type: ignore[assignment]
            self._enter(BODY)
            if self.pipeline:
                self.transport.pause_reading()  # also if deferred data made the transport go on behind uvicorn's back
            if self._api.status.draining:
                self.cycle.keep_alive = False
        elif self._in_cycle:
            self._enter(LAST)
            self.cycle.keep_alive = False
        else:
            self._keep_alive = self._keep_alive and version == "1.1" and self.parser.should_keep_alive()
            self._predict(Head(method.decode("latin-1"), target, url.query or b"", dict(self.headers)))

    def _predict(self, head: Head) -> None:
        """Begin a prediction request, and let a client that waits for it send the body."""
        request = self._begin_request(head, BODY)
        if self.expect_100_continue and request.state is not RequestState.ENDED:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        if self._state is not BODY:
            return
        if self._request is None:
            super().on_body(body)
        else:
            self._request.feed(body)

    def on_message_complete(self) -> None:
        """The message has come whole."""
        if self._state is not BODY:
            return
        if self._request is None:
            self._enter(IDLE)
            self.scope[BODY_ENDED] = True  # type: ignore[literal-required]
            super().on_message_complete()
        else:
            self._complete_request(self._request)

    # Requests and responses

    def _begin_request(self, head: Head, state: ConnectionState) -> PredictionRequest:
        services, arrived_ns = self._api.services, self._budget.arrived_ns
        self._request = request = PredictionRequest(services, head, arrived_ns, self._respond, self.client)
        self._enter(state)
        request.begin()  # may respond at once
        return request

    def _complete_request(self, request: PredictionRequest) -> None:
        if request.state is RequestState.ENDED:  # refused before
            self._write_early()
            self._end_request()
        else:
            self._enter(ANSWERING)
            request.complete()  # may respond at once

    def _respond(self, response: Response) -> None:
        """Write the response; the request ends with it if it has come whole.

        Before it has, a response waits for what is left of a small body, and else is the last: the other side may give
        the body up, and not all know that another request cannot follow then (RFC 9112, 9.3 and 9.6; HAProxy 2.6).
        """
        is_incomplete = self._state is BODY
        if self._api.status.draining:
            self._keep_alive = False
        if is_incomplete and self._keep_alive:
            assert self._request is not None
            if not self.expect_100_continue and self._request.declared_bytes <= AWAITED_BODY_BYTES:
                self._early = response
                return
            self._keep_alive = False
        self._write(response)
        if not is_incomplete:
            self._end_request()

    def _end_request(self) -> None:
        """The connection is free for the next request, or closes."""
        self._request = None
        if self._state is LAST:
            self._linger()
        elif self._keep_alive:
            self._enter(IDLE)
        else:
            self._close()

    def _write(self, response: Response) -> None:
        parts = [self._status_lines[response.status]]
        for name, value in self.server_state.default_headers:
            parts += [name, b": ", value, b"\r\n"]
        parts.append("".join([f"{name}: {value}\r\n" for name, value in response.headers.items()]).encode("latin-1"))
        parts.append(b"content-length: %d\r\n" % len(response.body))
        parts.append(b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        if response.method != "HEAD":
            parts.append(response.body)
        self.transport.write(b"".join(parts))

    def _fail(self, error: BaseException) -> None:
        """Refuse what came with an error: the parser's, one that a client is to be told, or a fault of our own."""
        if isinstance(error, httptools.HttpParserInvalidMethodError):
            error = BadRequest("the request does not begin with a method of HTTP, in capitals as POST is")
        elif isinstance(error, httptools.HttpParserError):
            error = BadRequest("the request is not valid HTTP/1.1")
        if not isinstance(error, Exception):
            raise error
        if not self._refuse(error) and not isinstance(error, ServiceError):
            log.error("connection failed", exc_info=error)

    def _refuse(self, error: Exception) -> bool:
        """Respond to what is no request yet, or no longer one, and close; whether the response could tell this error.

        What has come whole before it has its answer, which is then the last: what is wrong behind it is told nothing.
        """
        self._keep_alive = False
        if self._in_cycle:
            self._end_cycle()
            return False
        request, is_in_body = self._request, self._state is BODY
        is_open = request is not None and request.state is not RequestState.ENDED
        if is_open and not is_in_body:
            self._enter(LAST)
            return False
        if request is not None:
            request.refuse(error)
        elif not is_in_body:  # in a body FastAPI has answered already
            self._respond_without_request(error)
        self._linger()
        return is_open if request is not None else not is_in_body

    def _end_cycle(self) -> None:
        """Have FastAPI's answer be the last; of a body that is incomplete no more is waited for."""
        self.cycle.keep_alive = False
        is_incomplete = self._state is BODY
        self._enter(LAST)
        if is_incomplete:
            self.scope[BODY_ENDED] = True  # type: ignore[literal-required]
            if self.cycle.response_started:
                self.cycle.message_event.set()  # its end waits for that of the body
            self._await_answer()

    def _respond_without_request(self, error: Exception) -> None:
        """Write a response to the message that came last, as far as its head has come."""
        head = Head("", Target(""), b"", dict(self.headers))
        path = without_prefix(self.url, self._prefix).decode("latin-1")
        kind = InferenceResponse if is_inference_path(path) else Response
        response = begin_response(head, time.monotonic_ns(), self.client, kind)
        response.fail(error)
        if cors := self._api.services.cors:
            response.headers |= cors.headers(head.headers)
        self._write(response)
        response.timestamps.written_ns = time.monotonic_ns()
        self._api.metrics.count_http("", "other", response.status)
        if access_log := self._api.services.access_log:
            access_log.note(response, "")


class InsideProtocol(PredictionProtocol):
    """On a port that answers no predictions: everything goes on to FastAPI."""

    __slots__ = ()

    predicts = False

    def _take_plain(self, data: bytes) -> bool:
        del data
        return False
