"""A small HTTP server with a mind of its own, for the load generators."""

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

Respond = Callable[["Handler", bytes], None]


class Handler(BaseHTTPRequestHandler):
    """Hands each request with its body to the test."""

    protocol_version = "HTTP/1.1"
    respond: Respond

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        type(self).respond(self, body)

    do_GET = do_POST  # noqa: N815 - http.server's name

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        """Send an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
        del format, args


class Server(ThreadingHTTPServer):
    """Does not print what clients break off."""

    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        del request, client_address


@pytest.fixture
def http_server() -> Iterator[Callable[[Respond], int]]:
    """Start a server with this way of responding; its port."""
    servers = []

    def start(respond: Respond) -> int:
        server = Server(("127.0.0.1", 0), type("TestHandler", (Handler,), {"respond": staticmethod(respond)}))
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        servers.append((server, thread))
        return server.server_port

    yield start
    for server, thread in servers:
        server.shutdown()
        server.server_close()
        thread.join()
