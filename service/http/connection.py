"""How a connection is watched and ends: clients that are late, slow or idle, and a server that shuts down."""

import asyncio
import math
import time
from collections.abc import Mapping
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import BadRequest, RequestTimeout
from service.http.body_pace import BodyPace
from service.http.connection_state import ANSWERED, AWAITS_BODY, BODY, CLOSING, IDLE, LAST, ConnectionState
from service.http.hangup_watch import HangupWatch
from service.http.joined_writes import JoinedWrites
from service.http.read_timeout import ReadTimeout
from service.http.send_queue import SendQueue
from service.policy import GRACE_LOOK_S, LINGER_S
from service.prediction.api_process import ApiProcess
from service.prediction.request import PredictionRequest, RequestState, late_body
from service.prediction.response import Response

_MAPPED = "::ffff:"  # before the address of an IPv4 client of a socket that takes both (RFC 4291, 2.5.5.2)
_BEGINNING = b"HTTP/1.1 "  # of every answer
_STATUS_LINE_ENDS = {status: line.removeprefix(_BEGINNING) for status, line in STATUS_LINE.items()}


class HttpConnection(HttpToolsProtocol):
    """uvicorn's protocol with a state, timers and an end of its own; what it reads and writes is in its subclass."""

    __slots__ = (  # beside these its dict has at most 30 names: CPython stores larger ones whole for each connection
        "_api",
        "_deferred",
        "_early",
        "_eof_waits",
        "_hangups",
        "_held",
        "_idle_since_s",
        "_joined",
        "_keep_alive",
        "_pace",
        "_request",
        "_state",
        "_status_lines",
        "_timeout",
        "_unread",
        "_watched_fd",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - uvicorn's own arguments
        super().__init__(*args, **kwargs)
        self._api: ApiProcess = self.config.app.state.api  # type: ignore[union-attr]
        self._hangups: HangupWatch = self.config.app.state.hangups  # type: ignore[union-attr]
        self._watched_fd: int | None = None
        self._status_lines: Mapping[int, bytes] = STATUS_LINE  # what is still to be written of each
        self._state = ConnectionState.IDLE
        self._request: PredictionRequest | None = None
        self._early: Response | None = None  # which waits for the end of its request's body
        self._keep_alive = True  # after the response that is due
        self._deferred = 0  # pieces of data that have come and wait for another turn of the loop
        self._held = b""  # the last of these, until what came before it is answered and has gone out
        self._eof_waits = False  # the end of the data has come behind them
        self._unread: asyncio.TimerHandle | None = None  # runs while the client does not read its answers
        self._timeout = ReadTimeout()  # runs while a message is incomplete, or another client is to have the descriptor
        self._pace: BodyPace | None = None  # of a body that did not come at once
        self._idle_since_s = self.loop.time()

    def _enter(self, state: ConnectionState) -> None:
        raise NotImplementedError

    def _refuse(self, error: Exception) -> bool:
        raise NotImplementedError

    def _write(self, response: Response) -> None:
        raise NotImplementedError

    def _respond_without_request(self, error: Exception) -> None:
        raise NotImplementedError

    @property
    def _in_cycle(self) -> bool:
        """Whether FastAPI is answering."""
        return self.cycle is not None and not self.cycle.response_complete

    # The connection's beginning and end

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client has connected; if it sends nothing it is closed like an idle one."""
        super().connection_made(transport)
        self._joined = JoinedWrites(transport)  # for what FastAPI answers
        if self.client and self.client[0].startswith(_MAPPED):
            self.client = self.client[0].removeprefix(_MAPPED), self.client[1]
        self._watch_idleness(self.timeout_keep_alive)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has left."""
        super().connection_lost(exc)
        self._enter(CLOSING)
        self._unset_keepalive_if_required()  # which uvicorn leaves if the connection was reset
        self._deferred, self._held = 0, b""
        if self._unread:
            self._unread.cancel()
        if self._watched_fd is not None:
            self._hangups.forget(self._watched_fd)
        if self._request:
            self._request.abandon()
            self._request = None

    def eof_received(self) -> bool:  # type: ignore[override]
        """The client has ended its sending side; whether the connection stays, for an answer is due (RFC 9112, 9.6).

        The client may wait for it, or have closed its socket: both look alike until something is sent to it, which a
        closed socket answers with a reset. So the answer's beginning, which is that of every answer, is sent now.
        """
        if self._deferred:
            self._eof_waits = True
            return True
        if (self._state is BODY and not self._early) or not (self._request or self._in_cycle):
            return False
        if not self.transport.can_write_eof():  # over TLS both sides end at once
            return False
        if self._early:  # the body that it waited for will not come
            self._keep_alive = False
            self._linger()
            return True
        if self._request is None:
            self.cycle.keep_alive = False
            return True
        self._keep_alive = False
        self._watched_fd = self.transport.get_extra_info("socket").fileno()
        self._hangups.watch(self._watched_fd, self.transport.abort)
        self._status_lines = _STATUS_LINE_ENDS
        self.transport.write(_BEGINNING)
        return True

    def pause_writing(self) -> None:
        """The client does not read its answers: no more requests are read of it, which would make more.

        If it reads nothing for as long as a connection may be idle, it is over.
        """
        super().pause_writing()
        self._watch_unread(self.transport.get_write_buffer_size())
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def _watch_unread(self, left: int) -> None:
        self._unread = self.loop.call_later(self.timeout_keep_alive, self._on_unread, left)

    def _on_unread(self, before: int) -> None:
        if (left := self.transport.get_write_buffer_size()) < before:
            self._watch_unread(left)
        else:
            self.transport.abort()

    def resume_writing(self) -> None:
        """The client has read them; where nothing else stands against it, its requests are read again."""
        super().resume_writing()
        if self._unread:
            self._unread.cancel()
        if self._state is not LAST and not self.pipeline and not self.transport.is_closing():
            self.flow.resume_reading()
        self._release_held()

    def on_response_complete(self) -> None:
        """FastAPI has answered; while it has more to answer no more is read, however much is pipelined."""
        self._joined.flush()
        super().on_response_complete()
        self._idle_since_s = self.loop.time()
        if self.transport.is_closing():  # it was the last
            self._close()
        if self.pipeline or self.flow.write_paused:
            self.flow.pause_reading()
        self._release_held()

    def _release_held(self) -> None:
        raise NotImplementedError

    def shutdown(self) -> None:
        """Close once no response is due; a request may be on its way to an idle connection."""
        self._keep_alive = False
        if self._request is not None:
            return
        if self._in_cycle:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(LINGER_S, self._close_if_idle, self._send_queue())

    def refuse_request(self, error: Exception) -> None:
        """The server's time is over: respond with this error to what is under way, whole or not, and close."""
        if self._request is None:
            if self._state is CLOSING or self._in_cycle or self.flow.write_paused:
                self.transport.abort()  # the client has had its time to read, or FastAPI to answer
            return
        self._keep_alive = False
        is_incomplete = self._state is BODY
        self._request.refuse(error)
        if self.flow.write_paused:
            self.transport.abort()
        elif is_incomplete:
            self._linger()
        if not self.transport.can_write_eof():  # over TLS there is a goodbye, which may not be answered
            self.loop.call_later(LINGER_S, self.transport.abort)

    def _close_if_idle(self, before: SendQueue | None) -> None:
        if self._deferred and not self._held:
            self.loop.call_later(LINGER_S, self._close_if_idle, before)
        elif self._request is None and not self._in_cycle and self._state is not CLOSING:
            self._close(before)

    def _close(self, before: SendQueue | None = None) -> None:
        """Close once all that was written has gone out; a client that does not read has the time of an idle one.

        Over TLS the other side is told of the end, and need not answer; `before` is what a former look has found.
        """
        self._enter(CLOSING)
        now = self._send_queue()
        self.transport.close()
        if now is not None:
            has_all = now == before and now.is_empty
            self._timeout.start(LINGER_S, self.transport.abort if has_all else partial(self._look_again, now))
        elif self.transport.get_write_buffer_size():
            self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def _look_again(self, before: SendQueue) -> None:
        """Once the client has taken all, the end has come; the acceptor has a bound for it."""
        now = self._send_queue()
        if now is None or (now == before and now.is_empty):
            self.transport.abort()
        else:
            self._timeout.start(LINGER_S, partial(self._look_again, now))

    def _send_queue(self) -> SendQueue | None:
        """What the kernel has to send over TLS, whose transport does not know it; None without TLS, and at the end."""
        connection = None if self.transport.can_write_eof() else self.transport.get_extra_info("socket")
        return None if connection is None else SendQueue.of(connection)

    def _linger(self) -> None:
        """End our side, and close when the client has ended its own: with bytes unread it would lose the response."""
        self._write_early()
        self._request = None
        self._enter(CLOSING)
        self.flow.resume_reading()
        if not self.transport.is_closing():
            if self.transport.can_write_eof():
                self.transport.write_eof()
            self._timeout.start(LINGER_S, self._close)

    def _write_early(self) -> None:
        """Write the response that has waited for the body, whose end has come or will not come any more."""
        if self._early:
            early, self._early = self._early, None
            if self._api.status.draining:
                self._keep_alive = False
            self._write(early)

    def _answer_instead(self, error: Exception) -> None:
        """Close; FastAPI leaves the answer to this if it waits for the rest of a body, and is heard if it does not."""
        self._joined.flush()
        if not self._in_cycle or self.pipeline or self.cycle.response_started:
            self._close()
            return
        if not self.cycle.scope.get(AWAITS_BODY):
            self._timeout.start(self._api.services.settings.body_timeout, partial(self._answer_instead, error))
            return
        self.cycle.scope[ANSWERED] = True  # type: ignore[literal-required]
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        self._keep_alive = False
        self._respond_without_request(error)
        self._linger()

    # Idle clients

    def timeout_keep_alive_handler(self, *, looked: bool = False) -> None:
        """Close the connection if it has been idle for so long, and is so after another look; else go on watching."""
        if self._state not in (IDLE, CLOSING) or self._in_cycle or self._deferred:
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

    @property
    def idle_since_s(self) -> float:
        """Since when no request has been under way, on the loop's clock; infinite while one is."""
        is_idle = self._state is IDLE and not self._in_cycle and not self._deferred
        return self._idle_since_s if is_idle else math.inf

    def give_way(self) -> None:
        """Close the idle connection for a client that waits for a descriptor, unless another look finds a request."""
        self._timeout.start(0, self._end_idleness)

    def _end_idleness(self) -> None:
        if self.idle_since_s < math.inf:
            self._close()

    # Late and slow ones

    def _await_head(self) -> None:
        """A head is incomplete: give the rest of it its time."""
        if not self._timeout.runs:
            self._timeout.start(self._api.services.settings.header_timeout, self._on_late_head)

    def _on_late_head(self) -> None:
        """The rest of a head did not come in time, unless it waits, or is not read while FastAPI answers."""
        if self._held:
            self._timeout.start(self._api.services.settings.header_timeout, self._on_late_head)
        elif self._deferred:
            self._timeout.start(GRACE_LOOK_S, self._on_late_head)
        elif self._in_cycle:
            self._await_head()
        else:
            self._refuse(RequestTimeout("the headers did not arrive in time"))

    def _await_body(self, received: int, now_ns: int) -> None:
        """A body is incomplete, of which so many bytes have just come: give the rest of it its time."""
        if self._pace is None:
            self._pace = BodyPace(now_ns, self._api.services.settings.body_timeout)
        self._pace.note(received, now_ns)
        if not self._timeout.runs:
            self._timeout.start(self._body_left_s(now_ns), self._on_late_body)

    def _body_left_s(self, now_ns: int) -> float:
        """Seconds the client still has; a body that is read to be discarded gets no more by coming steadily."""
        assert self._pace is not None
        if self._request is None or self._request.state is RequestState.ENDED:
            ends_ns = self._pace.latest_ns
        else:
            ends_ns = min(self._pace.ends_ns, self._request.deadline_ns)
        return (ends_ns - now_ns) / 1e9

    def _await_answer(self) -> None:
        """A body has ended in garbage while FastAPI may wait for the rest: give it its time to answer without."""
        self._timeout.start(self._api.services.settings.body_timeout, self._on_late_answer)

    def _on_late_answer(self) -> None:
        if self.pipeline:  # it is another's turn
            self._await_answer()
        elif not self.transport.is_closing():
            self._answer_instead(BadRequest("the request is not valid HTTP/1.1"))

    def _on_late_body(self) -> None:
        """The rest of a body did not come in time, unless it waits, or some of it came meanwhile."""
        if self._held:
            self._timeout.start(self._api.services.settings.body_timeout, self._on_late_body)
        elif self._deferred:
            self._timeout.start(GRACE_LOOK_S, self._on_late_body)
        elif (left_s := self._body_left_s(time.monotonic_ns())) > 0:
            self._timeout.start(left_s, self._on_late_body)
        elif self._request is None:
            self._answer_instead(late_body())
        else:
            self._keep_alive = False
            self._request.expire_body()
            self._linger()
