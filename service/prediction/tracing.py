"""Traces: a span for each prediction request with its stages below it, exported by OTLP over HTTP.

The spans are made once the response is written, from the stamps that the request has anyway. They wait in a queue of
bounded size, which a thread empties: when the collector is slow or away the oldest are dropped, and no request waits.
What OpenTelemetry's own variables (OTEL_*) say is heeded by its SDK. This is the only module that imports it.
"""

import threading
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.propagate import extract
from opentelemetry.propagators.textmap import Getter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, StatusCode, format_trace_id, set_span_in_context
from opentelemetry.util.types import AttributeValue

from service.metrics.exemplars import Exemplars
from service.parsing.head import Head
from service.prediction.response import Response

_NAME = "resnet-serve"


class _HeaderFields(Getter[Mapping[bytes, bytes]]):
    """How propagators read the fields of a request."""

    def get(self, carrier: Mapping[bytes, bytes], key: str) -> list[str] | None:
        value = carrier.get(key.lower().encode())
        return None if value is None else [value.decode("latin-1")]

    def keys(self, carrier: Mapping[bytes, bytes]) -> list[str]:
        return [name.decode("latin-1") for name in carrier]


_HEADER_FIELDS = _HeaderFields()


class Tracing:
    """Makes and exports the spans of one API process."""

    def __init__(self, exemplars: Exemplars) -> None:
        self._exemplars = exemplars
        resource = Resource.create({"service.name": _NAME, "service.version": version(_NAME)})
        provider = TracerProvider(
            resource=resource.merge(OTELResourceDetector().detect()),  # what the variables say comes first
            shutdown_on_exit=False,
        )
        self._processor = BatchSpanProcessor(OTLPSpanExporter())
        provider.add_span_processor(self._processor)
        self._tracer = provider.get_tracer(_NAME, version(_NAME))

    def note(self, response: Response, head: Head, image_bytes: Sequence[int]) -> None:
        """A response has been written; `image_bytes`: sizes of the encoded images, as far as they are known."""
        duration_s = response.timestamps.total_ns / 1e9
        self._note(response, head, image_bytes, response.outcome, response.timestamps.written_ns, duration_s)

    def note_cancelled(self, response: Response, head: Head, image_bytes: Sequence[int]) -> None:
        """The client left before its response."""
        self._note(response, head, image_bytes, "cancelled", time.monotonic_ns(), None)

    def close(self, timeout_s: float) -> None:
        """Export what waits, for so long at most."""
        closing = threading.Thread(target=self._processor.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(timeout_s)

    def _note(
        self,
        response: Response,
        head: Head,
        image_bytes: Sequence[int],
        outcome: str,
        end_ns: int,
        duration_s: float | None,
    ) -> None:
        since_epoch_ns = time.time_ns() - time.monotonic_ns()
        timestamps, context = response.timestamps, extract(head.headers, getter=_HEADER_FIELDS)
        span = self._tracer.start_span(
            f"{response.method} {head.target.route}",
            context,
            SpanKind.SERVER,
            _attributes(response, head, image_bytes, outcome),
            start_time=timestamps.headers_ns + since_epoch_ns,
        )
        if not span.is_recording():
            return
        inner = set_span_in_context(span, context)
        for name, from_ns, to_ns in timestamps.passed():
            stage = self._tracer.start_span(name, inner, start_time=from_ns + since_epoch_ns)
            stage.end(to_ns + since_epoch_ns)
        if outcome != "cancelled" and response.status >= 500:
            span.set_status(StatusCode.ERROR)
        span.end(end_ns + since_epoch_ns)
        ids = span.get_span_context()
        response.trace_id = format_trace_id(ids.trace_id)
        if duration_s is not None:
            self._exemplars.note(duration_s, ids.trace_id, ids.span_id, response.model, outcome)


def _attributes(response: Response, head: Head, image_bytes: Sequence[int], outcome: str) -> dict[str, AttributeValue]:
    """What the request was and what became of it; by OpenTelemetry's names where it has some (HTTP server spans)."""
    attributes: dict[str, AttributeValue] = {
        "http.request.method": response.method,
        "http.route": head.target.route,
        "resnet.request_id": response.request_id,
        "resnet.model": response.model,
        "resnet.version": response.version,
        "resnet.outcome": outcome,
        "resnet.images": len(image_bytes),
        "resnet.image_bytes": sum(image_bytes),
        "resnet.batch_size": response.batch_size,
    }
    if response.client:
        attributes["client.address"], attributes["client.port"] = response.client
    if outcome != "cancelled":
        attributes["http.response.status_code"] = response.status
    if response.key:
        attributes["resnet.key"] = response.key
    if problem := response.problem:
        attributes["error.type"] = problem["code"]
        attributes["resnet.error.detail"] = problem["detail"]
        if "reason" in problem:
            attributes["resnet.error.reason"] = problem["reason"]
    return attributes
