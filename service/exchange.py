"""One prediction request on one connection, from its headers to its counted answer; free of any HTTP library."""

import time
from collections.abc import Callable, Mapping

from service.admission import Arrival
from service.answer import Answer, Journey, begin_answer, fail
from service.api import Api
from service.errors import BadRequest, DeadlineExceeded, MethodNotAllowed, RequestTimeout, ServiceError
from service.predict import Prediction, Request, parse_timeout_s
from service.target import Target

METHODS = ("POST", "PUT")


class Exchange:
    """Takes a request in pieces and gives back one answer, through `respond`, exactly once.

    An answer may be there before the body is complete: a refusal. What still comes of the body in its time is
    then discarded: to close the connection on it would reset it, and the client would lose the answer.
    Whoever lets the client go before the answer calls `abandon`.
    """

    def __init__(
        self,
        api: Api,
        method: str,
        target: Target,
        query: bytes,
        headers: Mapping[bytes, bytes],
        headers_ns: int,
        respond: Callable[[Answer], None],
    ) -> None:
        """`headers_ns`: when the last of the headers arrived, on the monotonic clock."""
        self._api, self._method, self._target = api, method, target
        self._query, self._headers, self._respond = query, headers, respond
        self.answered = self.received = False
        self._journey = Journey(headers_ns)
        self._answer = begin_answer(method, headers, self._journey)
        self._arrival: Arrival | None = None
        self._prediction: Prediction | None = None

    def begin(self) -> None:
        """Look at the headers; a request that is not let in is answered at once."""
        self._api.metrics.inflight.add(1)
        try:
            if self._method not in METHODS:
                raise MethodNotAllowed(self._method, METHODS)
            settings = self._api.settings
            timeout_s = parse_timeout_s(self._headers, settings.request_timeout, settings.max_request_timeout)
            self._deadline_ns = self._journey.headers_ns + int(timeout_s * 1e9)
            left_s = (self._deadline_ns - time.monotonic_ns()) / 1e9
            if left_s <= 0:
                raise DeadlineExceeded("the deadline passed while the server had no time for the request")
            self._arrival = self._api.open_arrival(_content_length(self._headers), left_s)
        except ServiceError as error:
            self.refuse(error)

    def feed(self, part: bytes) -> None:
        """Take the next part of the body."""
        if self.answered or self._arrival is None:
            return
        try:
            self._arrival.feed(part)
        except ServiceError as error:
            self.refuse(error)

    @property
    def missing_bytes(self) -> int:
        """How much of the body is still to come; 0 if the headers do not tell."""
        return self._arrival.missing_bytes if self._arrival else 0

    def complete(self) -> None:
        """The body is complete: run the request."""
        self.received = True
        if self.answered or self._arrival is None:
            return
        self._journey.body_ns = time.monotonic_ns()
        request = Request(self._target, self._query, self._headers, self._arrival.body, self._deadline_ns)
        self._prediction = Prediction(self._api.parts, request, self._answer, self._finish)
        self._prediction.run()

    def expire(self) -> None:
        """The body did not arrive in time."""
        self.refuse(RequestTimeout(f"the body did not arrive within {self._api.settings.body_timeout:g} s"))

    def abandon(self) -> None:
        """The client has left: what it asked for is not wanted any more."""
        if self.answered:
            return
        self.answered = True
        self._close_arrival()
        if self._prediction:
            self._prediction.cancel()
            self._prediction = None
        self._api.count_cancelled(self._answer)

    def refuse(self, error: ServiceError) -> None:
        """Answer with this error, unless there is an answer already."""
        if not self.answered:
            fail(self._answer, error)
            self._finish()

    def _finish(self) -> None:
        self.answered = True
        self._prediction = None  # which knows this one: now nothing is left for the garbage collector
        self._close_arrival()
        self._respond(self._answer)
        self._api.count(self._answer, self._method, self._target)

    def _close_arrival(self) -> None:
        if self._arrival:
            self._arrival.close()


def _content_length(headers: Mapping[bytes, bytes]) -> int | None:
    """What the headers declare; the HTTP parser has refused what is not a number."""
    declared = headers.get(b"content-length")
    if declared is None:
        return None
    if not declared.isdigit():
        raise BadRequest("Content-Length must be a number")
    return int(declared)
