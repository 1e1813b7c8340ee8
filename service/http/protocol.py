"""All that is uvicorn's own: its server, which the supervisor stops, and its HTTP protocol with our door in it."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import httptools
import uvicorn
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import BadRequest, HeadersTooLarge, RequestTimeout, ServiceError
from service.http.acceptor import Acceptor
from service.http.head_cache import Heads
from service.http.read_budget import Turn
from service.http.read_timeout import LOOK_S, Clock
from service.prediction.api_process import Api
from service.prediction.exchange import Exchange
from service.prediction.head import Head
from service.prediction.response import Answer, Journey, begin_answer, fail
from service.prediction.target import Target, parse_target

MAX_HEAD_BYTES = 64 << 10  # of one request
DATE_S = 1.0  # between changes of the date in answers
LINGER_S = 0.5  # how long a connection that is to close is kept, for what is already on its way

_PROBES = (b"GET /livez", b"HEAD /livez", b"GET /readyz", b"HEAD /readyz", b"GET /metrics")
_OFFERS = (b"connection", b"upgrade", b"http2-settings")  # header fields of an offer to change the protocol


class ApiServer(uvicorn.Server):
    """uvicorn's server, stopped by the supervisor instead of by signals."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Take no more connections, answer what has come, end."""
        self.should_exit = True
        self._stopping.set()

    async def main_loop(self) -> None:
        """Keep the date in the answers until stopped; uvicorn's own loop wakes ten times a second."""
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), DATE_S)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """No signals: uvicorn would install its own handlers."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Take up connections; uvloop's own server takes one of each socket in a turn, however many wait."""
        await super().startup([])
        self._acceptors = [Acceptor(one, self._make_protocol, self.server_state.connections) for one in sockets or []]

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept whoever has been let in already, then close."""
        await asyncio.gather(*(acceptor.close() for acceptor in self._acceptors))
        await super().shutdown(sockets)

    def _make_protocol(self) -> asyncio.Protocol:
        return Door(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)


class Door(HttpToolsProtocol):
    """uvicorn's HTTP protocol, in which prediction requests leave for an `Exchange` once their headers are complete.

    Everything else goes on to FastAPI. What is pipelined behind a prediction is not read: the connection closes after
    the answer, and the client sends it again (RFC 9112, 9.3.2).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - whatever uvicorn passes
        super().__init__(*args, **kwargs)
        self.api: Api = self.config.app.state.api  # type: ignore[union-attr]
        self.exchange: Exchange | None = None
        self._receiving = self._in_body = False  # of the message that is being parsed
        self._head_bytes = 0
        self._ignoring = False  # something is pipelined behind a prediction
        self._closing = False  # after the answer that is due
        self._deaf = False  # the last answer is given
        self._clock = Clock()  # runs while a message is incomplete
        self._heads: Heads = self.config.app.state.heads  # type: ignore[union-attr]
        self._turn: Turn = self.config.app.state.turn  # type: ignore[union-attr]
        self._put_off = False  # what has come waits for a turn of the loop
        self._chunk: bytes | None = None  # what is being parsed, if a message began with it
        self._idle_since_s = self.loop.time()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has come; if it says nothing it is let go like an idle one."""
        super().connection_made(transport)
        self._watch_idleness(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        super().connection_lost(exc)
        self._clock.stop()
        self._unset_keepalive_if_required()  # which uvicorn does not if the connection was reset
        self._put_off = False
        if self.exchange:
            self.exchange.abandon()
            self.exchange = None

    def data_received(self, data: bytes) -> None:
        """Take what came, now or in another turn of the loop."""
        self._turn.note_arrival()
        if self._turn.has_time or self._is_quick(data):
            self._take(data)
        else:
            self._put_off = True
            self._turn.put_off(self.transport, self._take, data)

    def _is_quick(self, data: bytes) -> bool:
        """Whether to take this does not keep others waiting: it is a probe's, or there is more of a body to come."""
        if self.exchange:
            return self.exchange.missing_bytes > len(data)
        return not self._receiving and data.startswith(_PROBES)

    def _take(self, data: bytes) -> None:
        """Parse what came; if a message is incomplete after it, the rest has to come in time."""
        self._put_off = False
        if self._deaf:
            return
        fresh = not self._receiving and self.exchange is None
        if fresh and not self._closing and (known := self._heads.split(data)) and not self._in_cycle:
            self._take_known(*known)
            return
        self._chunk = data if fresh else None
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError:
            self._refuse(BadRequest("what came is not HTTP/1.1"))
            return
        if not self._receiving or self.transport.is_closing():
            return
        if not self._in_body and (size := self._head_bytes + len(data)) > MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge(f"{size} bytes of headers have come; at most {MAX_HEAD_BYTES} are taken"))
            return
        self._head_bytes += len(data)
        if not self._clock.runs:
            settings = self.api.settings
            self._clock.start(settings.body_timeout if self._in_body else settings.header_timeout, self._on_late)

    def _take_known(self, head: Head, body: bytes) -> None:
        """A whole request whose head needs no parsing."""
        self.expect_100_continue = False
        exchange = self._begin_exchange(head)
        exchange.feed(body)
        self._complete_exchange(exchange)

    def _stay_with_http(self, rest: bytes) -> None:
        """Take a request that offers another protocol, h2c say, as if it did not: a server may (RFC 9110, 7.8)."""
        method = self.parser.get_method()
        fields = [name + b": " + value + b"\r\n" for name, value in self.headers if name not in _OFFERS]
        self.parser = httptools.HttpRequestParser(self)
        self._take(b"%s %s HTTP/1.1\r\n%s\r\n%s" % (method, self.url, b"".join(fields), rest))

    def on_message_begin(self) -> None:
        """A message begins, its first byte has come."""
        if self.exchange:
            self._ignoring = self._closing = True
            self.flow.pause_reading()
        if not self._ignoring:
            self._receiving, self._in_body, self._head_bytes = True, False, 0
            super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Part of the request's target."""
        if not self._ignoring:
            super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header field."""
        if not self._ignoring:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Choose who answers."""
        if self._ignoring or self.parser.should_upgrade():
            return
        self._clock.stop()
        self._in_body = True
        chunk, self._chunk = self._chunk, None  # another message in it does not begin it
        url = httptools.parse_url(self.url)
        target = parse_target(url.path)
        if target is None:
            super().on_headers_complete()
            if self.api.status.draining:
                self.cycle.keep_alive = False
            return
        if self._in_cycle:
            self._ignoring, self.cycle.keep_alive = True, False
            return
        head = Head(self.parser.get_method().decode("latin-1"), target, url.query or b"", dict(self.headers))
        self._closing = self._closing or not self.parser.should_keep_alive()
        if chunk and not self._closing and not self.expect_100_continue:
            self._heads.remember(chunk, head)
        exchange = self._begin_exchange(head)
        if self.expect_100_continue and not exchange.answered:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin_exchange(self, head: Head) -> Exchange:
        self.exchange = exchange = Exchange(self.api, head, self._turn.arrived_ns, self._respond)
        exchange.begin()
        return exchange

    def on_body(self, body: bytes) -> None:
        """Part of the body."""
        if self._ignoring:
            return
        if self.exchange is None:
            super().on_body(body)
        else:
            self.exchange.feed(body)

    def on_message_complete(self) -> None:
        """The message has come whole."""
        if self._ignoring or self.parser.should_upgrade():
            return
        self._clock.stop()
        self._receiving = False
        if self.exchange is None:
            super().on_message_complete()
            return
        self._complete_exchange(self.exchange)

    def _complete_exchange(self, exchange: Exchange) -> None:
        refused = exchange.answered
        exchange.complete()  # may answer at once, which ends it
        if refused:
            self._end_exchange()

    def shutdown(self) -> None:
        """Close once nothing is due; a request may be on its way to an idle connection."""
        self._closing = True
        if self.exchange is not None:
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
        if self._put_off:
            self.loop.call_later(LINGER_S, self._close_if_idle)
        elif self.exchange is None and not self._in_cycle:
            self.transport.close()

    def timeout_keep_alive_handler(self, *, looked: bool = False) -> None:
        """Close the connection if it has been idle for so long, and is so after another look; else go on watching."""
        if self.exchange or self._in_cycle or self._receiving or self._put_off:
            self._watch_idleness(self.timeout_keep_alive)
        elif (left_s := self._idle_since_s + self.timeout_keep_alive - self.loop.time()) > 0:
            self._watch_idleness(left_s)
        elif not looked:
            self._watch_idleness(LOOK_S, looked=True)
        else:
            self.transport.abort()  # also if what was last written has not gone out in all this time

    def _watch_idleness(self, seconds: float, *, looked: bool = False) -> None:
        handler = partial(self.timeout_keep_alive_handler, looked=looked)
        self.timeout_keep_alive_task = self.loop.call_later(seconds, handler)

    def _respond(self, answer: Answer) -> None:
        """Write the exchange's answer."""
        assert self.exchange is not None
        if self.api.status.draining or (self.expect_100_continue and not self.exchange.received):
            self._closing = True
        self._write(answer)
        if self.exchange.received:
            self._end_exchange()

    def _end_exchange(self) -> None:
        """Answered and received: the connection is free for the next request, or closes."""
        self.exchange = None
        if self._ignoring:
            self._close_gently()
        elif self._closing:
            self._close()
        else:
            self._idle_since_s = self.loop.time()

    def _write(self, answer: Answer) -> None:
        parts = [STATUS_LINE[answer.status]]
        for name, value in self.server_state.default_headers:
            parts += [name, b": ", value, b"\r\n"]
        parts.append("".join([f"{name}: {value}\r\n" for name, value in answer.headers.items()]).encode("latin-1"))
        parts.append(b"content-length: %d\r\n" % len(answer.body))
        parts.append(b"connection: close\r\n\r\n" if self._closing else b"\r\n")
        if answer.to_method != "HEAD":
            parts.append(answer.body)
        self.transport.write(b"".join(parts))

    def _on_late(self) -> None:
        """The rest of a message did not come in time."""
        if self._put_off:  # it did, or some of it
            self._clock.start(LOOK_S, self._on_late)
        elif self.exchange is None and self._in_body:
            self.transport.close()
        elif self.exchange is None:
            self._refuse(RequestTimeout("the headers did not arrive in time"))
        else:
            self._closing = True
            self.exchange.expire()
            self._close_gently()

    def _refuse(self, error: ServiceError) -> None:
        """Answer what is no request yet, or not any more, and close."""
        self._closing = True
        if self.exchange is not None:
            self.exchange.refuse(error)
        else:
            answer = begin_answer(Head("", Target(""), b"", {}), Journey(time.monotonic_ns()))
            fail(answer, error)
            self._write(answer)
            self.api.metrics.count_http("", "other", answer.status)
        self._close_gently()

    def _close(self) -> None:
        """Close once all that was written has gone out; whoever does not read has the time of an idle client."""
        self.transport.close()
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _close_gently(self) -> None:
        """Say that nothing more comes, and close when the client has: with bytes unread, it would lose the answer."""
        self._deaf = True
        self._clock.stop()
        self.flow.resume_reading()
        if not self.transport.is_closing():
            self.transport.write_eof()
            self._clock.start(LINGER_S, self._close)
