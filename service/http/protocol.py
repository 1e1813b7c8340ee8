"""One HTTP connection: uvicorn's protocol, from which prediction requests leave for a `PredictionRequest`."""

import asyncio
import time
from enum import IntEnum
from functools import partial
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import BadRequest, HeadersTooLarge, RequestTimeout, ServiceError
from service.http.head_cache import HEAD_END, HeadCache
from service.http.read_budget import ReadBudget
from service.http.read_timeout import ReadTimeout
from service.policy import CACHED_HEAD_BYTES, GRACE_LOOK_S, LINGER_S
from service.prediction.api_process import ApiProcess
from service.prediction.head import Head, Target, parse_target
from service.prediction.request import PredictionRequest, RequestState
from service.prediction.response import Response, begin_response

MAX_HEAD_BYTES = 64 << 10  # bound on the request line and header fields of one request; nginx allows 32 KiB

_PROBES = (b"GET /livez", b"HEAD /livez", b"GET /readyz", b"HEAD /readyz", b"GET /metrics")
_UPGRADE_FIELDS = (
    b"connection",
    b"upgrade",
    b"http2-settings",
)  # header fields of an offer to change the protocol (RFC 9110, 7.8)


class ConnectionState(IntEnum):
    """Where a connection is, as far as its newest message goes; what FastAPI answers is left out."""

    IDLE = 0  # between messages
    HEAD = 1  # a message has begun, its headers are incomplete
    BODY = 2  # its headers are complete, its body is not
    ANSWERING = 3  # a prediction request has come whole, its response is due
    PIPELINED = 4  # so is a response, and what has come behind its request is not read
    CLOSING = 5  # the last response is given, what still comes is ignored


_IDLE, _HEAD, _BODY, _ANSWERING, _PIPELINED, _CLOSING = ConnectionState

_NEXT: dict[ConnectionState, frozenset[ConnectionState]] = {
    _IDLE: frozenset({_HEAD, _BODY, _PIPELINED, _CLOSING}),  # to BODY at once with a known head
    _HEAD: frozenset({_BODY, _IDLE, _PIPELINED, _CLOSING}),  # to IDLE if it offers another protocol: parsed again
    _BODY: frozenset({_IDLE, _ANSWERING, _PIPELINED, _CLOSING}),
    _ANSWERING: frozenset({_IDLE, _PIPELINED, _CLOSING}),
    _PIPELINED: frozenset({_CLOSING}),
    _CLOSING: frozenset({_CLOSING}),
}


class PredictionProtocol(HttpToolsProtocol):
    """Prediction requests leave for a `PredictionRequest` once their headers are complete, others go on to FastAPI.

    What is pipelined behind a prediction is not read: the connection closes after the response, and the client sends it
    again (RFC 9112, 9.3.2).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(*args, **kwargs)
        state = self.config.app.state  # type: ignore[union-attr]
        self._api: ApiProcess = state.api
        self._heads: HeadCache = state.heads
        self._budget: ReadBudget = state.budget
        self._state = ConnectionState.IDLE
        self._request: PredictionRequest | None = None
        self._keep_alive = True  # after the response that is due
        self._head_bytes = 0
        self._chunk: bytes | None = None  # what is being parsed, if a message began with it
        self._deferred = False  # data that has come waits for another turn of the loop
        self._timeout = ReadTimeout()  # runs while a message is incomplete
        self._idle_since_s = self.loop.time()

    def _enter(self, state: ConnectionState) -> None:
        """Go to another state; the time that the former one had is forgotten."""
        assert state in _NEXT[self._state], f"from {self._state.name} to {state.name}"
        self._state = state
        if self._timeout.runs:
            self._timeout.stop()
        if state is _IDLE:
            self._idle_since_s = self.loop.time()

    # Data

    def data_received(self, data: bytes) -> None:
        """Take what came, now or in another turn of the loop."""
        if self._budget.note_arrival() or self._is_quick(data):
            self._take(data)
        else:
            self._deferred = True
            self._budget.defer(self.transport, self._take, data)

    def _is_quick(self, data: bytes) -> bool:
        """Whether to take this keeps no other waiting: it is a probe's, or there is more of a body to come."""
        if self._request:
            return self._request.missing_bytes > len(data)
        return self._state is _IDLE and data.startswith(_PROBES)

    def _take(self, data: bytes) -> None:
        """Parse what came; if a message is incomplete after it, the rest has to come in time."""
        self._deferred = False
        if self._state is _CLOSING:
            return
        is_fresh = self._state is _IDLE
        if is_fresh and self._keep_alive and not self._in_cycle and self._take_known(data):
            return
        self._chunk = data if is_fresh else None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(data[upgrade.args[0] :])
        except httptools.HttpParserError:
            self._refuse(BadRequest("what came is not HTTP/1.1"))
        else:
            if self._state in (_HEAD, _BODY) and not self.transport.is_closing():
                self._await_rest(len(data))

    def _take_known(self, data: bytes) -> bool:
        """Take exactly one message whose head came before and needs no parsing; False for any other."""
        end = data.find(HEAD_END, 0, CACHED_HEAD_BYTES) + len(HEAD_END)
        head = self._heads.get(data[:end])
        if head is None or len(data) - end != head.content_length:
            return False
        self.expect_100_continue = False
        self._enter(_BODY)
        request = self._begin_request(head)
        request.feed(data[end:])
        self._complete_request(request)
        return True

    def _await_rest(self, received: int) -> None:
        """Give the rest of a message its time, and its head a bound."""
        if self._state is _HEAD and (size := self._head_bytes + received) > MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge(f"{size} bytes of headers have come; at most {MAX_HEAD_BYTES} are taken"))
            return
        self._head_bytes += received
        if not self._timeout.runs:
            settings = self._api.services.settings
            seconds = settings.body_timeout if self._state is _BODY else settings.header_timeout
            self._timeout.start(seconds, self._on_late)

    def _stay_with_http(self, rest: bytes) -> None:
        """Take a request that offers another protocol, h2c say, as if it did not: a server may (RFC 9110, 7.8)."""
        if self._state is not _HEAD:
            return
        method = self.parser.get_method()
        if method == b"CONNECT":  # which would be an offer again, however often it is parsed
            self._refuse(BadRequest("CONNECT is for proxies, and this is none"))
            return
        fields = [name + b": " + value + b"\r\n" for name, value in self.headers if name not in _UPGRADE_FIELDS]
        self.parser = httptools.HttpRequestParser(self)
        self._enter(_IDLE)
        self._take(b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method, self.url, b"".join(fields), rest))

    # What the parser finds

    def on_message_begin(self) -> None:
        """A message begins, its first byte has come."""
        if self._state is _ANSWERING:
            self._leave_unread()
        elif self._state is _IDLE:
            self._enter(_HEAD)
            self._head_bytes = 0
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Part of the request's target."""
        if self._state is _HEAD:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        if self._state is _HEAD:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Choose what answers: a prediction request or FastAPI."""
        if self._state is not _HEAD or self.parser.should_upgrade():
            return
        self._enter(_BODY)
        chunk, self._chunk = self._chunk, None  # another message in it does not begin it
        url = httptools.parse_url(self.url)
        target = parse_target(url.path)
        if target is None:
            super().on_headers_complete()
            if self._api.status.draining:
                self.cycle.keep_alive = False
        elif self._in_cycle:
            self._leave_unread()
        else:
            head = Head(self.parser.get_method().decode("latin-1"), target, url.query or b"", dict(self.headers))
            self._predict(head, chunk)

    def _predict(self, head: Head, chunk: bytes | None) -> None:
        """Begin a prediction request; its head begins the chunk, if that is given."""
        self._keep_alive = self._keep_alive and self.parser.should_keep_alive()
        if chunk and self._keep_alive and not self.expect_100_continue:
            self._heads.remember(chunk, head)
        request = self._begin_request(head)
        if self.expect_100_continue and request.state is not RequestState.ENDED:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        if self._state is not _BODY:
            return
        if self._request is None:
            super().on_body(body)
        else:
            self._request.feed(body)

    def on_message_complete(self) -> None:
        """The message has come whole."""
        if self._state is not _BODY or self.parser.should_upgrade():
            return
        if self._request is None:
            self._enter(_IDLE)
            super().on_message_complete()
        else:
            self._complete_request(self._request)

    # Requests and responses

    def _begin_request(self, head: Head) -> PredictionRequest:
        self._request = PredictionRequest(self._api.services, head, self._budget.arrived_ns, self._respond)
        self._request.begin()
        return self._request

    def _complete_request(self, request: PredictionRequest) -> None:
        if request.state is RequestState.ENDED:  # refused before, and the response is written
            self._end_request()
        else:
            self._enter(_ANSWERING)
            request.complete()  # may respond at once

    def _respond(self, response: Response) -> None:
        """Write the response; the request ends with it if it has come whole."""
        is_incomplete = self._state is _BODY
        if self._api.status.draining or (self.expect_100_continue and is_incomplete):
            self._keep_alive = False
        self._write(response)
        if not is_incomplete:
            self._end_request()

    def _end_request(self) -> None:
        """The connection is free for the next request, or closes."""
        self._request = None
        if self._state is _PIPELINED:
            self._linger()
        elif self._keep_alive:
            self._enter(_IDLE)
        else:
            self._close()

    def _write(self, response: Response) -> None:
        parts = [STATUS_LINE[response.status]]
        for name, value in self.server_state.default_headers:
            parts += [name, b": ", value, b"\r\n"]
        parts.append("".join([f"{name}: {value}\r\n" for name, value in response.headers.items()]).encode("latin-1"))
        parts.append(b"content-length: %d\r\n" % len(response.body))
        parts.append(b"\r\n" if self._keep_alive else b"connection: close\r\n\r\n")
        if response.method != "HEAD":
            parts.append(response.body)
        self.transport.write(b"".join(parts))

    def _leave_unread(self) -> None:
        """Close after the response that is due, whatever has come behind its request."""
        self._enter(_PIPELINED)
        if self._request is None:
            self.cycle.keep_alive = False
        else:
            self._keep_alive = False
            self.flow.pause_reading()

    def _refuse(self, error: ServiceError) -> None:
        """Respond to what can be no request, and close; it is not read if the response to one before is due."""
        if self._state in (_PIPELINED, _CLOSING):
            return
        if self._state is _ANSWERING or self._in_cycle:
            self._leave_unread()
            return
        self._keep_alive = False
        if self._request is not None:
            self._request.refuse(error)
        else:
            response = begin_response(Head("", Target(""), b"", {}), time.monotonic_ns())
            response.fail(error)
            self._write(response)
            self._api.metrics.count_http("", "other", response.status)
        self._linger()

    def refuse_request(self, error: ServiceError) -> None:
        """The server's time is over: respond with this error to what is under way, whole or not, and close."""
        if self._request is None:
            return
        self._keep_alive = False
        is_incomplete = self._state is _BODY
        self._request.refuse(error)
        if is_incomplete:
            self._linger()

    # The connection's beginning and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; if it sends nothing it is closed like an idle one."""
        super().connection_made(transport)
        self._watch_idleness(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        super().connection_lost(exc)
        self._enter(_CLOSING)
        self._unset_keepalive_if_required()  # which uvicorn leaves if the connection was reset
        self._deferred = False
        if self._request:
            self._request.abandon()
            self._request = None

    def shutdown(self) -> None:
        """Close once no response is due; a request may be on its way to an idle connection."""
        self._keep_alive = False
        if self._request is not None:
            return
        if self._in_cycle:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LINGER_S, self._close_if_idle)

    @property
    def _in_cycle(self) -> bool:
        """Whether FastAPI is answering."""
        return self.cycle is not None and not self.cycle.response_complete

    def _close_if_idle(self) -> None:
        if self._deferred:
            self.loop.call_later(LINGER_S, self._close_if_idle)
        elif self._request is None and not self._in_cycle:
            self.transport.close()

    def timeout_keep_alive_handler(self, *, looked: bool = False) -> None:
        """Close the connection if it has been idle for so long, and is so after another look; else go on watching."""
        if self._state not in (_IDLE, _CLOSING) or self._in_cycle or self._deferred:
            self._watch_idleness(self.timeout_keep_alive)
        elif (left_s := self._idle_since_s + self.timeout_keep_alive - self.loop.time()) > 0:
            self._watch_idleness(left_s)
        elif not looked:
            self._watch_idleness(GRACE_LOOK_S, looked=True)
        else:
            self.transport.abort()  # also if what was last written has not gone out in all this time

    def _watch_idleness(self, seconds: float, *, looked: bool = False) -> None:
        handler = partial(self.timeout_keep_alive_handler, looked=looked)
        self.timeout_keep_alive_task = self.loop.call_later(seconds, handler)

    def _on_late(self) -> None:
        """The rest of a message did not come in time."""
        if self._deferred:  # it did, or some of it
            self._timeout.start(GRACE_LOOK_S, self._on_late)
        elif self._state is _HEAD:
            self._refuse(RequestTimeout("the headers did not arrive in time"))
        elif self._request is None:
            self.transport.close()
        else:
            self._keep_alive = False
            self._request.expire_body()
            self._linger()

    def _close(self) -> None:
        """Close once all that was written has gone out; a client that does not read has the time of an idle one."""
        self._enter(_CLOSING)
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _linger(self) -> None:
        """End our side, and close when the client has ended its own: with bytes unread it would lose the response."""
        self._request = None
        self._enter(_CLOSING)
        self.flow.resume_reading()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self._timeout.start(LINGER_S, self._close)
