"""One prediction request, from its headers to its counted response; knows no HTTP library.

It advances by callbacks rather than as a coroutine: from a worker's reply to the bytes of the response there is then no
turn of the event loop, and no task or future to make for each request.
"""

import asyncio
import math
import time
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from operator import attrgetter
from typing import Any

import numpy as np
import structlog

from models.images.png import is_small_png
from service.batching.admission import IncomingBody
from service.batching.decoding import Decoding, Pixels, decoding_error
from service.batching.image_task import ImageTask, Outcome, Result
from service.catalog.served_model import ServedModel
from service.errors import (
    BadRequest,
    DeadlineExceeded,
    MethodNotAllowed,
    RequestTimeout,
    ServiceError,
    Unavailable,
)
from service.ipc.messages import WITH_LOGITS
from service.parsing.body import JSON_BEGINNINGS, parse
from service.parsing.content_coding import most_decompressed
from service.parsing.head import METHODS, Head, Kind
from service.parsing.inference import InferencePayload
from service.parsing.payload import Payload
from service.policy import SMALL_BODY_BYTES, TINY_BYTES, TINY_PIXELS
from service.prediction.inference_response import InferenceResponse
from service.prediction.response import Response, begin_response
from service.prediction.services import Services

log = structlog.get_logger()

FAILED_RETRY_S = 60  # Retry-After for a model that failed to load

_IMAGES = Kind.IMAGE, Kind.OTHER  # kinds of bodies that are the image itself, unless they begin like JSON
_is_tiny = partial(is_small_png, most_bytes=TINY_BYTES, most_pixels=TINY_PIXELS)
_taken_ns, _done_ns = attrgetter("taken_ns"), attrgetter("done_ns")


class RequestState(Enum):
    """Where a request is."""

    RECEIVING = "its body arrives"
    PARSING = "its images are found in its body"
    DECODING = "its images become pixels"
    WAITING = "for the workers' results"
    ENDED = "it has its response, or its client has left"


class PredictionRequest:
    """Takes a request in pieces and gives back one response, through `respond`, exactly once.

    The response may be there before the body is complete: a refusal. What still comes of the body is then ignored. When
    the client leaves before the response, `abandon` ends the request without one. Every error becomes a response.

    Attributes:
        deadline_ns: when the response has to be there, on the monotonic clock; known once the request is admitted.

    """

    __slots__ = (
        "_body",
        "_head",
        "_image_bytes",
        "_missing",
        "_model",
        "_on_threads",
        "_payload",
        "_respond",
        "_response",
        "_services",
        "_slots",
        "_tasks",
        "_top_k",
        "deadline_ns",
        "state",
    )

    def __init__(
        self,
        services: Services,
        head: Head,
        headers_ns: int,
        respond: Callable[[Response], None],
        client: tuple[str, int] | None = None,
    ) -> None:
        """`headers_ns`: when the last of the headers arrived, on the monotonic clock; `client`: host and port."""
        self._services, self._head, self._respond = services, head, respond
        self.state = RequestState.RECEIVING
        kind = InferenceResponse if head.target.is_inference else Response
        self._response = begin_response(head, headers_ns, client, kind)
        if services.cors is not None:
            self._response.headers |= services.cors.headers(head.headers)
        if head.method not in METHODS:
            self._response.headers["cache-control"] = "no-store"  # a cache may keep the 404 or 405 to a GET
        self._body: IncomingBody | None = None
        self._slots: list[int] = []  # that no task has yet
        self._tasks: list[ImageTask] = []
        self._payload: Payload | None = None  # of a body that is not the image itself
        self._image_bytes: Sequence[int] = ()  # sizes of its encoded images, once they are found
        self._missing = 0  # tasks without an outcome
        self._on_threads: asyncio.Future[Any] | Decoding | None = None  # what works on its body or images there

    @property
    def missing_bytes(self) -> int:
        """How much of the body is still to come; 0 if its length is not declared."""
        return self._body.missing_bytes if self._body else 0

    @property
    def declared_bytes(self) -> float:
        """Size of the body, as far as it is declared; that of chunks may be any."""
        if b"transfer-encoding" in self._head.headers:
            return math.inf
        return self._head.content_length or 0

    def begin(self) -> None:
        """The headers are complete: admit the request, or refuse it at once."""
        services, head, settings = self._services, self._head, self._services.settings
        services.request_metrics.begin()
        try:
            if services.guard is not None:
                self._response.key = services.guard.admit(head.headers, self._response.client, "predict")
            model = self._choose_model()
            if head.method not in head.target.methods:
                raise MethodNotAllowed(head.method, head.target.methods)
            if head.method == "PUT" and b"content-range" in head.headers:  # RFC 9110, 14.5
                raise BadRequest("a part of a picture cannot be classified: send the whole, without Content-Range")
            timeout_s = min(head.timeout_s or settings.request_timeout, settings.max_request_timeout)
            self.deadline_ns = self._response.timestamps.headers_ns + int(timeout_s * 1e9)
            late_s = (time.monotonic_ns() - self._response.timestamps.headers_ns) / 1e9
            size = head.content_length
            needs_decoder = not head.target.is_inference and (size is None or size > TINY_BYTES)  # as far as is known
            services.admission.check(model.index, timeout_s - late_s, late_s, needs_decoder=needs_decoder)
            self._body = IncomingBody(services.admission, settings.max_body_bytes, size)
        except Exception as error:
            self._fail(error)

    def _choose_model(self) -> ServedModel:
        """The model that is asked for; NotFound if it is not served."""
        target = self._head.target
        model = self._model = self._services.models[target.model, target.version]
        self._response.model, self._response.version = model.name, model.version
        return model

    def feed(self, part: bytes) -> None:
        """Take the next part of the body."""
        if self.state is RequestState.ENDED:
            return
        assert self._body is not None
        try:
            self._body.feed(part)
        except Exception as error:
            self._fail(error)

    def complete(self) -> None:
        """The body is complete: go as far as is possible now; the rest follows with pixels and results."""
        if self.state is RequestState.ENDED:
            return
        self._response.timestamps.body_ns = time.monotonic_ns()
        try:
            self._take_apart()
        except Exception as error:
            self._fail(error)

    def expire(self) -> None:
        """The deadline has passed."""
        self.refuse(DeadlineExceeded("the deadline passed before the answer was there"))

    def expire_body(self) -> None:
        """The body did not arrive in time."""
        self.refuse(late_body())

    def refuse(self, error: Exception) -> None:
        """Respond with this error, unless there is a response already."""
        if self.state is not RequestState.ENDED:
            self._response.fail(error)
            self._finish()

    def _fail(self, error: Exception) -> None:
        """Respond with an error that came up on the way; one behind the response can only be logged."""
        if self.state is RequestState.ENDED:
            log.error("fault behind the response", request_id=self._response.request_id, exc_info=error)
        else:
            self.refuse(error)

    def abandon(self) -> None:
        """The client has left: the response is not wanted any more."""
        if self.state is not RequestState.ENDED:
            self._end()
            self._services.request_metrics.count_cancelled(self._response)
            if tracing := self._services.tracing:
                tracing.note_cancelled(self._response, self._head, self._image_bytes)
            if access_log := self._services.access_log:
                access_log.note_cancelled(self._response, self._head.target.route, self._image_bytes)

    def _take_apart(self) -> None:
        """Find the encoded images in the body, which most often is one itself: a large form or JSON on a thread."""
        services, head = self._services, self._head
        assert self._body is not None
        self._top_k = WITH_LOGITS if head.target.is_inference else min(head.top_k, self._most_classes)
        body = self._body.content
        if body and head.kind in _IMAGES and body[0] not in JSON_BEGINNINGS and not head.coding:
            self._decode([body])
            return
        settings, most_bytes = services.settings, 0
        if head.coding:
            most_bytes = most_decompressed(head.coding, len(body), settings.max_body_bytes)
            self._body.reserve(most_bytes)
        call = partial(parse, head, body, self._model.input_shape, settings.max_images_per_request, most_bytes)
        if len(body) + most_bytes <= SMALL_BODY_BYTES:
            self._take(call())
        else:
            self._watch_deadline()
            self.state = RequestState.PARSING
            self._on_threads = services.decoder.run(call, self._on_payload)

    @property
    def _most_classes(self) -> int:
        """Classes that may be asked for: as many as the model has, and a message to a worker has room for."""
        return min(len(self._model.labels), WITH_LOGITS - 1)

    def _on_payload(self, parsing: asyncio.Future[Payload]) -> None:
        """A large body is taken apart, or cannot be."""
        self._on_threads = None
        if parsing.cancelled():
            return
        if error := parsing.exception():
            assert isinstance(error, Exception)
            self.refuse(error)
        elif self.state is not RequestState.ENDED:
            try:
                self._take(parsing.result())
            except Exception as error:
                self._fail(error)

    def _take(self, payload: Payload) -> None:
        """The images that were found in the body: a lone one that is none is the request's error."""
        assert self._body is not None
        self._body.replace(sum(map(len, payload.images)))
        lone = None if payload.several else payload.sources[0].judge(None)
        if lone is not None:
            self.refuse(lone)
            return
        self._payload = payload
        if isinstance(payload, InferencePayload) and payload.timeout_ns:
            headers_ns = self._response.timestamps.headers_ns
            self.deadline_ns = min(self.deadline_ns, headers_ns + payload.timeout_ns)
        images, payload.images = payload.images, []  # which the decoder holds now
        self._decode(images)

    def _decode(self, images: list[bytes]) -> None:
        """Reserve a slot for each image, and have them decoded, unless they are pixels already."""
        services, model = self._services, self._model
        are_pixels = self._payload is not None and self._payload.are_pixels
        self._image_bytes = list(map(len, images))
        if model.failure is not None:
            model = self._find_successor()
        left_s = self._left_s
        tiny = are_pixels or all(map(_is_tiny, images))
        decoding_s = 0.0 if tiny else services.decoder.estimate.cost_s(images)
        self._slots = services.admission.acquire(len(images), model.index, left_s, decoding_s)
        if services.model_demand is not None:
            services.model_demand.ask(model, len(images))
        self._watch_deadline()
        self.state = RequestState.DECODING
        if are_pixels:
            self._on_pixels([np.frombuffer(image, np.uint8).reshape(model.input_shape) for image in images])
        elif tiny:
            self._on_pixels(list(map(self._decode_at_once, images)))
        else:
            self._on_threads = services.decoder.decode(model.preprocessor, images, self._on_pixels)

    def _decode_at_once(self, image: bytes) -> Pixels | ServiceError:
        try:
            return self._model.preprocessor(image)
        except Exception as error:
            return decoding_error(error, image)

    def _find_successor(self) -> ServedModel:
        """What is served now in place of a model that is not any more; Unavailable if the model failed to load."""
        if self._model.retired:
            shape = self._model.input_shape
            self._choose_model()
            if self._payload and self._payload.are_pixels and self._model.input_shape != shape:
                raise BadRequest(f"a version was loaded meanwhile that takes images of {self._model.input_shape}")
            if self._top_k != WITH_LOGITS:
                self._top_k = min(self._head.top_k, self._most_classes)
        if (failure := self._model.failure) is not None:
            raise Unavailable("loading", f"the model failed to load: {failure}", retry_after_s=FAILED_RETRY_S)
        return self._model

    def _on_pixels(self, decoded: Sequence[Pixels | ServiceError]) -> None:
        """Every image is decoded or has its own error."""
        self._on_threads = None  # it holds the pixels, too
        if self.state is RequestState.ENDED:  # since the last of them was decoded
            return
        if self._payload is not None:
            decoded = [source.judge(one) for source, one in zip(self._payload.sources, decoded, strict=True)]
        try:
            self._queue(decoded)
        except Exception as error:
            self._fail(error)

    def _queue(self, decoded: Sequence[Pixels | ServiceError]) -> None:
        """Queue the images with pixels; the others have their outcome."""
        model, demand = self._model.index, self._services.model_demand
        if demand is not None:
            model = demand.take_over(self._model, self._slots)
        self._response.timestamps.pixels_ns = time.monotonic_ns()
        self.state = RequestState.WAITING
        self._missing = len(decoded)
        request_id = self._response.request_id
        for pixels in decoded:
            task = ImageTask(self._slots.pop(), model, self._top_k, self.deadline_ns, self._on_outcome, request_id)
            self._tasks.append(task)
            if isinstance(pixels, ServiceError):
                self._services.admission.release((task.slot,))
                task.wanted, task.outcome = False, pixels
                self._on_outcome()
            else:
                self._services.batcher.submit(task, pixels)

    def _on_outcome(self) -> None:
        """One more image has its result or its error."""
        self._missing -= 1
        if not self._missing:
            try:
                self._succeed([task.outcome for task in self._tasks if task.outcome is not None])
            except Exception as error:
                self._fail(error)

    def _succeed(self, outcomes: list[Outcome]) -> None:
        """Respond with what was found, or with an error."""
        response, timestamps = self._response, self._response.timestamps
        errors = [outcome for outcome in outcomes if isinstance(outcome, ServiceError)]
        ran = [outcome for outcome in outcomes if isinstance(outcome, Result)]
        response.image_bytes = self._image_bytes
        response.rejected = [error.code for error in errors]
        if (error := self._whole_error(errors, none_ran=not ran)) is not None:
            self.refuse(error)  # if it were raised, it and this frame would refer to each other
            return
        timestamps.taken_ns = min(map(_taken_ns, ran), default=timestamps.pixels_ns)
        timestamps.done_ns = max(map(_done_ns, ran), default=timestamps.pixels_ns)
        timestamps.written_ns = time.monotonic_ns()  # for the timings in the response; set again once it is written
        response.succeed(outcomes, self._model.labels, self._payload)
        self._finish()

    def _whole_error(self, errors: Sequence[ServiceError], *, none_ran: bool) -> ServiceError | None:
        """The error that is the response: a lone image's, or why the server has run none of several."""
        if not (self._payload and self._payload.several):
            return next(iter(errors), None)
        refusals = (error for error in errors if isinstance(error, Unavailable | DeadlineExceeded))
        return next(refusals, None) if none_ran else None

    def _watch_deadline(self) -> None:
        """Have the request expire at its deadline, unless it ends before."""
        deadlines = self._services.deadlines
        deadlines.open[self] = self.deadline_ns
        if self.deadline_ns < deadlines.looks_ns:
            deadlines.look_at(self.deadline_ns)

    @property
    def _left_s(self) -> float:
        """Seconds until the deadline, DeadlineExceeded if it has passed."""
        left_s = (self.deadline_ns - time.monotonic_ns()) / 1e9
        if left_s <= 0:
            raise DeadlineExceeded("the deadline passed while the request was being received")
        return left_s

    def _finish(self) -> None:
        """Send the response, with others that are ready, then count it."""
        self._end()
        self._services.outbox.put(self._write, self._count)

    def _write(self) -> None:
        try:
            self._respond(self._response)
        except Exception as error:
            self._fail(error)
        self._response.timestamps.written_ns = time.monotonic_ns()

    def _count(self) -> None:
        """Count the response, and note it in trace and access log if there are any."""
        try:
            self._services.request_metrics.count(self._response, self._head.target.route)
            if tracing := self._services.tracing:
                tracing.note(self._response, self._head, self._image_bytes)
            if access_log := self._services.access_log:
                access_log.note(self._response, self._head.target.route, self._image_bytes)
        except Exception as error:
            self._fail(error)

    def _end(self) -> None:
        """Release everything: what has not begun is dropped, and no part refers to another any more."""
        self.state = RequestState.ENDED
        self._services.deadlines.open.pop(self, None)
        if self._on_threads:
            self._on_threads.cancel()
        if self._slots:
            self._services.admission.release(self._slots)
            self._slots.clear()
        for task in self._tasks:
            if task.wanted:
                self._services.batcher.withdraw(task)
        self._tasks.clear()
        if self._body:
            self._body.close()


def late_body() -> RequestTimeout:
    """The error of a request whose body is not there when it has to be."""
    return RequestTimeout("the body did not arrive in time, or arrived too slowly")
