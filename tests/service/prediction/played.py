"""The services of one API process, and a worker that the test plays at the other end of their pipes.

The played worker finds in an image the class that its first pixel names.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from select import PIPE_BUF
from typing import Any, Self

import uvloop
from prometheus_client import CollectorRegistry

from models.artifact.artifact import Artifact
from service.catalog.catalog import Catalog
from service.config.settings import Settings
from service.errors import ServiceError, Unavailable
from service.ipc.channels import Channels
from service.ipc.control import WorkerDown, WorkerUp
from service.ipc.messages import BatchMessage, Reply
from service.ipc.pipe import Pipe
from service.ipc.reports import ModelReport
from service.ipc.slots import OK
from service.metrics.metered_model import metered_models
from service.metrics.metrics import Metrics
from service.parsing.head import Head, Target
from service.prediction.api_process import ApiProcess
from service.prediction.request import PredictionRequest, RequestState
from service.prediction.response import Response
from service.routes.routes import ROUTES
from tests.artifacts import LABELS
from tests.service.pictures import b64, encode, pixels, png
from tests.service.served import DEADLINE_S

PREDICT = Target("/predict")
SLOTS, BYTES = 4, 1 << 20
IMAGE_BYTES = 64  # of pixels
REPORT = ModelReport(0, "ready", max_batch_size=4, batch_latency_ms=((1, 1.0), (4, 2.0)))


class PlayedProcess:
    """One API process without connections; to be made and used within a running event loop."""

    def __init__(
        self,
        artifact: Artifact,
        *others: Artifact,
        batch_size: int = 4,
        shadow: Artifact | None = None,
        **settings: object,
    ) -> None:
        limits = {"max_bytes_in_flight": BYTES, "max_body_bytes": BYTES // 4}
        limits |= {"decode_threads": 1, "decode_memory": 64 << 20}
        self.settings = Settings(_cli_parse_args=False, **limits | settings)  # type: ignore[arg-type]
        self.channels = Channels(1, 1, SLOTS, IMAGE_BYTES, len(LABELS))
        self.control = Pipe()
        self.stops = 0
        self.connected: list[PredictionRequest] = []
        artifacts = (artifact, *others, *filter(None, [shadow]))
        catalog = Catalog(artifacts, {}, 0, shadow=len(others) + 1 if shadow else None)
        self.metrics = Metrics([*metered_models(catalog, 1000).values()], ROUTES, workers=1, api_processes=1)
        self.api = ApiProcess(
            0, self.channels, self.control, catalog, self.metrics, self.settings, print, self._stop, self._refuse
        )
        self.services = self.api.services
        self.services.admission.open = True
        self.epoch = 0
        report = replace(REPORT, max_batch_size=batch_size)
        self._reports = tuple(replace(report, model=number) for number in catalog.numbers)
        self._registry = CollectorRegistry()
        self._registry.register(self.metrics)

    def _stop(self) -> None:
        self.stops += 1

    def _refuse(self, error: ServiceError) -> None:
        """What the server does for every connection."""
        for request in self.connected:
            request.refuse(error)

    def close(self) -> None:
        """End the threads, and close every pipe."""
        self.api.close()
        self.control.close()
        self.channels.close()

    def count(self, series: str, **labels: str) -> float:
        """A sample of the metrics, 0 if it is not exported; without its prefix."""
        return self._registry.get_sample_value(f"resnet_{series}", labels) or 0.0

    def counted(self, series: str) -> dict[tuple[str, ...], float]:
        """The samples of a series that are not zero, by their label values in the order of the labels' names."""
        samples = (sample for family in self._registry.collect() for sample in family.samples)
        return {
            tuple(sample.labels[name] for name in sorted(sample.labels)): sample.value
            for sample in samples
            if sample.name == f"resnet_{series}" and sample.value
        }

    def is_whole(self) -> bool:
        """Whether every slot and every byte can be had again, and no work and no request is counted as held."""
        admission = self.services.admission
        try:
            slots = admission.acquire(SLOTS, 0, left_s=1.0)
            admission.release(slots)
            admission.reserve_bytes(BYTES)
            admission.return_bytes(BYTES)
        except ServiceError:
            return False
        return (
            sorted(slots) == list(self.channels.slots_of(0))
            and self.channels.shared_state.held_ns[0] == 0
            and self.services.batcher.depth == 0
            and self.count("inflight_requests") == 0
        )

    # The worker

    def up(self) -> None:
        """The worker begins another life."""
        self.epoch += 1
        self.api._on_message(WorkerUp(0, self.epoch, self._reports))

    def die(self) -> None:
        """The worker ends; what lies in its pipe is not read any more."""
        self.api._on_message(WorkerDown(0))

    def take(self) -> BatchMessage | None:
        """The next batch for the worker as it is now, if there is one."""
        os.set_blocking(self.channels.requests[0].reader, False)
        try:
            message = BatchMessage.unpack(os.read(self.channels.requests[0].reader, PIPE_BUF))
        except BlockingIOError:
            return None
        if message.epoch != self.epoch:
            return self.take()
        self.channels.shared_state.taken[0, 0] = message.batch
        return message

    def reply(self, message: BatchMessage, status: int = OK) -> Reply:
        """Answer a batch; what was said of it.

        Each image shows the class that its first pixel names, and the next one is half as likely.
        """
        pool, now_ns = self.channels.slot_pool, time.monotonic_ns()
        for slot in message.slots:
            pool.statuses[slot] = status
            first = int(pool.pixels[slot, 0])
            pool.indices[slot] = [(first + i) % len(LABELS) for i in range(len(LABELS))]
            pool.probabilities[slot] = [2.0**-i for i in range(1, len(LABELS) + 1)]
        told = Reply(0, message.epoch, message.batch, now_ns - 1000, now_ns, len(message.slots), counts=True)
        os.write(self.channels.replies[0].writer, told.pack())
        return told

    async def taken(self) -> BatchMessage:
        """The next batch, waited for."""
        while (message := self.take()) is None:
            await asyncio.sleep(0)
        return message


class Sent:
    """One request of a client, and the responses that it got."""

    def __init__(self, process: PlayedProcess, head: Head, body: bytes = b"") -> None:
        self.responses: list[Response] = []
        self.body, self.position = body, 0
        self.headers_ns = time.monotonic_ns()
        self.request = PredictionRequest(process.services, head, self.headers_ns, self.responses.append)

    def begin(self) -> Self:
        """Its headers are there."""
        self.request.begin()
        return self

    def feed(self, size: int | None = None) -> Self:
        """So many bytes more, or all that are left."""
        end = len(self.body) if size is None else self.position + size
        if part := self.body[self.position : end]:
            self.position += len(part)
            self.request.feed(part)
        return self

    def send(self) -> Self:
        """All of it."""
        self.begin().feed().request.complete()
        return self

    async def response(self) -> Response:
        """Its one response, waited for."""
        while not self.responses:
            await asyncio.sleep(0)
        (response,) = self.responses
        return response

    @property
    def document(self) -> dict[str, object]:
        """The one response's body."""
        (response,) = self.responses
        document: dict[str, object] = json.loads(response.body)
        return document


def head(content_length: int | None, method: str = "POST", target: Target = PREDICT, **fields: str) -> Head:
    """A head with these fields, whose names are written with underscores."""
    headers = {name.replace("_", "-").encode(): value.encode() for name, value in fields.items()}
    if content_length is not None:
        headers[b"content-length"] = b"%d" % content_length
    return Head(method, target, b"top_k=1", headers)


def picture(first: int, *, tiny: bool = True) -> bytes:
    """An image that shows the class `first`; one that is not tiny is decoded on a thread."""
    if tiny:
        return png(first=first)
    image = pixels(shape=(80, 80, 1))
    image[:40, :40] = first
    return encode(image)


def several(*images: bytes) -> tuple[bytes, dict[str, str]]:
    """The JSON body that holds these images, and the field that says so."""
    encoded = [b64(image) for image in images]
    return json.dumps({"images": encoded}).encode(), {"content_type": "application/json"}


def lone(process: PlayedProcess, body: bytes, **options: Any) -> Sent:
    """A request with one image that declares its length."""
    return Sent(process, head(len(body), **options), body)


def many(process: PlayedProcess, *images: bytes, **fields: str) -> Sent:
    """A request with several images in JSON."""
    body, content_type = several(*images)
    return Sent(process, head(len(body), **content_type, **fields), body)


def code(sent: Sent) -> tuple[int, object]:
    """Status and code of the one response, which is a problem."""
    return sent.responses[0].status, sent.document["code"]


def check_ended(process: PlayedProcess, sent: Sent) -> None:
    """Nothing that still comes changes anything: there is one response, and nothing is held."""
    assert sent.request.state is RequestState.ENDED
    sent.feed()
    sent.request.complete()
    sent.request.expire_body()
    sent.request.refuse(Unavailable("draining", "the end"))
    sent.request.abandon()
    assert len(sent.responses) == 1
    assert process.is_whole()


def play(scene: Callable[[PlayedProcess], Awaitable[None]], *artifacts: Artifact, **options: object) -> None:
    """Run a scene in the event loop that servers use; no callback in it raises anything."""
    unhandled: list[object] = []

    async def run() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
        process = PlayedProcess(*artifacts, **options)  # type: ignore[arg-type]
        try:
            await scene(process)
        finally:
            process.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(asyncio.wait_for(run(), DEADLINE_S))
    assert unhandled == []
