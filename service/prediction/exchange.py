"""One prediction request on one connection, from its headers to its counted answer; free of any HTTP library."""

import time
from collections.abc import Callable

from service.errors import DeadlineExceeded, MethodNotAllowed, RequestTimeout, ServiceError
from service.prediction.admission import Arrival
from service.prediction.api_process import Api
from service.prediction.head import Head
from service.prediction.request import Prediction
from service.prediction.response import Answer, Journey, begin_answer, fail

METHODS = ("POST", "PUT")


class Exchange:
    """Takes a request in pieces and gives back one answer, through `respond`, exactly once.

    An answer may be there before the body is complete: a refusal. What still comes of the body in its time is
    then discarded: to close the connection on it would reset it, and the client would lose the answer.
    Whoever lets the client go before the answer calls `abandon`.
    """

    def __init__(self, api: Api, head: Head, headers_ns: int, respond: Callable[[Answer], None]) -> None:
        """`headers_ns`: when the last of the headers arrived, on the monotonic clock."""
        self._api, self._head, self._respond = api, head, respond
        self.answered = self.received = False
        self._answer = begin_answer(head, Journey(headers_ns))
        self._arrival: Arrival | None = None
        self._prediction: Prediction | None = None

    def begin(self) -> None:
        """Look at the headers; a request that is not let in is answered at once."""
        api, head = self._api, self._head
        api.tally.begin()
        try:
            if head.method not in METHODS:
                raise MethodNotAllowed(head.method, METHODS)
            timeout_s = head.timeout_s(api.settings.request_timeout, api.settings.max_request_timeout)
            self._deadline_ns = self._answer.journey.headers_ns + int(timeout_s * 1e9)
            left_s = (self._deadline_ns - time.monotonic_ns()) / 1e9
            if left_s <= 0:
                raise DeadlineExceeded("the deadline passed while the server had no time for the request")
            self._arrival = api.open_arrival(head.content_length, left_s)
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
        self._answer.journey.body_ns = time.monotonic_ns()
        self._prediction = Prediction(
            self._api.parts, self._head, self._arrival.body, self._deadline_ns, self._answer, self._finish
        )
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
        self._api.tally.count_cancelled(self._answer)

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
        self._api.tally.count(self._answer, self._head.target.route)

    def _close_arrival(self) -> None:
        if self._arrival:
            self._arrival.close()
