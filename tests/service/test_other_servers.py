"""What uvicorn and nginx say to the same bytes: where this server differs, docs/requests.md says so."""

import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, free_port, is_listening, until
from tests.service.wire import Wire, get, post

Address = tuple[str, int]
DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "requests.md"

APPLICATION = """
async def answer(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
    await send({"type": "http.response.body", "body": b"ok\\n"})
"""
NGINX = """
daemon off;
pid {folder}/nginx.pid;
error_log stderr crit;
user root;
events {{}}
http {{
    access_log off;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "ok\\n"; }} }}
}}
"""

GET, POST, PICTURE = get("/livez"), post(png()), png()
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(PICTURE), PICTURE)


def old(request: bytes) -> bytes:
    """The request in HTTP/1.0."""
    return request.replace(b"HTTP/1.1", b"HTTP/1.0")


def without_host(request: bytes) -> bytes:
    return request.replace(b"Host: server\r\n", b"")


# How many answers are due, and the bytes; HALF: the client then ends its sending side.
HALF = "the sending side ends"
REQUESTS: dict[str, tuple[int, bytes]] = {
    "`GET`": (1, GET),
    "`HEAD`": (1, get("/livez", method="HEAD")),
    "`POST` with a length": (1, POST),
    "`POST` in chunks": (1, get("/predict", "Transfer-Encoding: chunked", method="POST") + CHUNKS),
    "`Connection: close`": (1, get("/livez", "Connection: close")),
    "`OPTIONS` of a route": (1, get("/livez", method="OPTIONS")),
    "`OPTIONS *`": (1, get("*", method="OPTIONS")),
    "`CONNECT`": (1, b"CONNECT server:443 HTTP/1.1\r\nHost: server:443\r\n\r\n"),
    "a whole URL": (1, get("http://server/livez")),
    "no `Host`": (1, without_host(GET)),
    "two `Host`": (1, get("/livez", "Host: other")),
    "a `Host` with a blank": (1, GET.replace(b"Host: server", b"Host: a server")),
    "HTTP/1.0": (1, old(without_host(GET))),
    "HTTP/1.0 with `Connection: keep-alive`": (1, old(get("/livez", "Connection: keep-alive"))),
    "HTTP/2.0": (1, GET.replace(b"HTTP/1.1", b"HTTP/2.0")),
    "`Expect: 100-continue`": (1, post(PICTURE, "/predict", "Expect: 100-continue")),
    "HTTP/1.0 with `Expect: 100-continue`": (1, old(post(PICTURE, "/predict", "Expect: 100-continue"))),
    "two `GET` at once": (2, GET * 2),
    "two `POST` at once": (2, POST * 2),
    "`Transfer-Encoding: gzip, chunked`": (
        1,
        get("/predict", "Transfer-Encoding: gzip, chunked", method="POST") + CHUNKS,
    ),
    "a length and chunks": (
        1,
        get("/predict", "Content-Length: 5", "Transfer-Encoding: chunked", method="POST") + CHUNKS,
    ),
    "two lengths": (1, get("/predict", "Content-Length: 5", "Content-Length: 6", method="POST")),
    "a length that is no number": (1, get("/predict", "Content-Length: x", method="POST")),
    "blanks behind a value": (1, get("/livez", "Accept: x \t")),
    "a blank before a colon": (1, get("/livez", "Accept : x")),
    "an empty line before the request": (1, b"\r\n" + GET),
    "lines that end in LF": (1, GET.replace(b"\r\n", b"\n")),
    "a field that goes on in another line": (1, get("/livez", "Accept: x,\r\n y")),
    "an offer of h2c": (1, get("/livez", "Connection: Upgrade", "Upgrade: h2c")),
    "no HTTP": (1, b"\x16\x03\x01\x02\x00\r\n\r\n"),
    "too many headers": (1, get("/livez", "X-Long: " + "x" * (1 << 17))),
    f"`GET`, and {HALF}": (1, GET),
    f"`POST`, and {HALF}": (1, POST),
}


def heard(address: Address, name: str) -> str:
    """The statuses of the answers, and whether the connection then stays open for another request."""
    due, data = REQUESTS[name]
    statuses: list[str] = []
    with Wire(address) as wire:
        wire.send(data)
        if HALF in name:
            wire.socket.shutdown(socket.SHUT_WR)
        answers = _answers(wire, "HEAD" if "HEAD" in name else "POST")
        while due and (status := next(answers, None)):
            statuses.append(str(status))
            due -= status >= 200
        stays = not due and HALF not in name and _is_answered(wire, answers)
    return ", ".join(statuses or ["nothing"]) + ("" if stays else ", closes")


def _answers(wire: Wire, to: str) -> Iterator[int]:
    """Statuses until the server closes, or resets the connection."""
    while True:
        try:
            yield wire.answer(to).status
        except (ValueError, ConnectionError):
            return


def _is_answered(wire: Wire, answers: Iterator[int]) -> bool:
    try:
        wire.send(GET)
    except ConnectionError:
        return False
    return next(answers, None) == 200


@pytest.fixture(scope="module")
def others(require: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Address]]:
    """uvicorn and nginx, each of which answers 200 to whatever it takes."""
    folder = tmp_path_factory.mktemp("others")
    (folder / "application.py").write_text(APPLICATION)
    ports = free_port(), free_port()
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=ports[1]))
    uvicorn = [sys.executable, "-m", "uvicorn", "application:answer", "--http", "httptools", "--lifespan", "off"]
    commands = (
        [*uvicorn, "--no-access-log", "--log-level", "critical", "--port", str(ports[0])],
        [require("nginx"), "-p", str(folder), "-c", str(folder / "nginx.conf")],
    )
    processes = [subprocess.Popen(command, cwd=folder, stderr=subprocess.DEVNULL) for command in commands]
    addresses = [("127.0.0.1", port) for port in ports]
    try:
        for address in addresses:
            until(lambda address=address: is_listening(address), "the other servers")
        yield addresses
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(DEADLINE_S)


def rows() -> dict[str, list[str]]:
    """The document's table of differences: what each of the three servers says."""
    table = DOCUMENT.read_text().partition("<!-- other servers -->")[2].partition("<!-- end of other servers -->")[0]
    lines = [re.split(r" *\| *", line.strip("| ")) for line in table.strip().splitlines()[2:]]
    return {name: said for name, *said, _ in lines}


def test_servers_differ_only_where_the_document_says_so(server: Served, others: list[Address]) -> None:
    found = {name: [heard(address, name) for address in (server.address, *others)] for name in REQUESTS}
    differences = {name: said for name, said in found.items() if len(set(said)) > 1}
    assert differences == rows(), "\n".join(f"| {name} | {' | '.join(said)} |" for name, said in differences.items())
