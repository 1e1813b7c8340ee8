"""A small receiver of OTLP over HTTP, and the spans that it was sent."""

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.service.served import until


class Receiver:
    """What has been sent: spans, and the resource of the last that came."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resource: dict[str, Any] = {}
        self.url = ""
        self.answers = threading.Event()
        """While it is not set a request has no answer."""
        self.answers.set()
        self.asked = threading.Event()
        """A request has come."""

    def take(self, path: str, body: bytes) -> None:
        """One request's body."""
        assert path == "/v1/traces"
        for of_resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resource = values(of_resource.resource.attributes)
            for scope in of_resource.scope_spans:
                self.spans += scope.spans

    def roots(self) -> dict[str, Span]:
        """The spans of requests, by their ids."""
        found = [(values(span.attributes).get("resnet.request_id"), span) for span in list(self.spans)]
        return {str(request_id): span for request_id, span in found if request_id}

    def wait_for(self, request_id: str) -> Span:
        """The span of this request, once it is there."""
        found: Span = until(lambda: self.roots().get(request_id), f"the span of {request_id}")
        return found

    def children(self, parent: Span) -> list[Span]:
        """The spans right below this one, as they began."""
        found = [span for span in self.spans if span.parent_span_id == parent.span_id]
        return sorted(found, key=lambda span: span.start_time_unix_nano)


def values(attributes: Iterator[KeyValue] | Any) -> dict[str, Any]:
    """Attributes as a dict."""
    return {pair.key: value(pair.value) for pair in attributes}


def value(given: AnyValue) -> Any:
    return getattr(given, str(given.WhichOneof("value")))


@contextmanager
def receiving() -> Iterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.asked.set()
            receiver.answers.wait()
            receiver.take(self.path, gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body)
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not on the terminal."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    receiver.url = "http://{}:{}".format(*server.server_address)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield receiver
    finally:
        receiver.answers.set()
        server.shutdown()
        server.server_close()
        thread.join()
