"""Clients that give a refused body up, also behind HAProxy: its connections to the server are other clients', too."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, free_port, until
from tests.service.wire import Wire, get

HAPROXY = """
defaults
    mode http
    timeout connect {seconds:.0f}s
    timeout client {seconds:.0f}s
    timeout server {seconds:.0f}s
listen predictions
    bind 127.0.0.1:{front} proto h2
    server one 127.0.0.1:{port}
"""


@pytest.fixture(scope="module")
def patient(serve_module: Servers, repository: Path) -> Served:
    """A server that waits for what is left of a body for longer than curl waits."""
    models = ("--model-repository", repository, "--default-model", "plain", "--max-body-bytes", "1000000")
    return serve_module(*models, "--workers", "1", "--body-timeout", str(5 * DEADLINE_S)).ready()


@pytest.fixture
def url(patient: Served, require: Callable[[str], str], tmp_path: Path) -> Iterator[str]:
    """HAProxy for HTTP/2, which keeps connections to the server as it does by default."""
    front, path = free_port(), tmp_path / "haproxy.cfg"
    path.write_text(HAPROXY.format(front=front, port=patient.address[1], seconds=DEADLINE_S))
    process = subprocess.Popen([require("haproxy"), "-db", "-f", path], stderr=subprocess.DEVNULL)
    try:
        yield f"http://127.0.0.1:{front}"
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_a_body_that_breaks_behind_its_answer_ends_the_connection_at_once(patient: Served) -> None:
    """The server would wait for the rest of that body for longer than this client does."""
    with Wire(patient.address) as wire:
        wire.send(get("/nowhere", "Transfer-Encoding: chunked", method="POST"))
        assert wire.answer().status == 404
        wire.send(b"no chunk\r\n")
        assert wire.ended()


@pytest.mark.parametrize("path", ["/predict", "/models/zebra/predict", "/nowhere", "/livez"])
def test_the_next_request_is_not_put_into_the_body_that_was_left(
    url: str, require: Callable[[str], str], tmp_path: Path, path: str
) -> None:
    """curl ends the stream with the refusal; the next client gets the same connection."""
    picture, large = tmp_path / "picture", tmp_path / "large"
    picture.write_bytes(png())
    large.write_bytes(bytes(8 << 20))

    def ask(path: str, body: Path) -> str:
        command = [require("curl"), "-s", "--http2-prior-knowledge", "--max-time", str(DEADLINE_S)]
        command += ["-o", "/dev/null", "-w", "%{http_code}", "--data-binary", f"@{body}", url + path]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=DEADLINE_S, check=False).stdout

    until(lambda: ask("/predict", picture) == "200", "HAProxy to listen")
    refused = {"/predict": "413", "/livez": "405"}.get(path, "404")
    heard = [(ask(path, large), ask("/predict", picture)) for _ in range(5)]
    assert heard == [(refused, "200")] * 5
