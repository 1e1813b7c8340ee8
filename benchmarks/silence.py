"""How long `/livez` is silent while a body as large as is taken arrives and is worked on.

    python -m benchmarks.silence [--rounds 5] [--only WORD]

A process of its own asks for `/livez` each 5 ms on a kept connection: first while nothing else is asked, then while one
body after the other is sent. The waits of a busy machine are long whatever the server does; so for each the CPU time is
told, too, that all threads of the API process took meanwhile: on a quiet one it would not be longer.
"""

import argparse
import contextlib
import gzip
import io
import json
import multiprocessing
import socket
import struct
import tempfile
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.serving.ratios import Spread
from benchmarks.serving.servers import SERVERS, Running, started
from benchmarks.serving.workloads import mnist_workload
from benchmarks.surroundings import RESULTS, serving_surroundings
from service.repository import ZOO

PERIOD_S, IDLE_S = 0.005, 2.0
LIMIT = 16 << 20  # --max-body-bytes
MOST_IMAGES = 64  # --max-images-per-request
TIMEOUT_S = 120.0
PREDICT, INFER = "/predict", "/v2/models/mnist-residual/infer"
JSON, FORM, RAW = "application/json", "multipart/form-data; boundary=b", "application/octet-stream"
PROBE = b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n"


class Body(NamedTuple):
    """What is sent, in chunks of so many bytes where there are any."""

    path: str
    content_type: str
    content: bytes
    more: str = ""
    chunk: int = 0

    def message(self) -> bytes:
        """The whole request."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: a\r\nContent-Type: {self.content_type}\r\n{self.more}"
        if not self.chunk:
            return f"{head}Content-Length: {len(self.content)}\r\n\r\n".encode() + self.content
        parts = (self.content[at : at + self.chunk] for at in range(0, len(self.content), self.chunk))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"


def bodies() -> dict[str, Callable[[], Body]]:
    """Of every kind one that is about as large as is taken, made when it is needed."""
    text, one, number = (
        '{"images": [%s]}',
        '{"image": "%s"}',
        '{"inputs": [{"name": "image", "datatype": "UINT8", "shape": [64, 28, 28, 1], "data": [%s]}]}',
    )
    return {
        "empty form parts": lambda: form(b"", LIMIT // 58),
        "one form field": lambda: Body(PREDICT, FORM, field(b"x" * (LIMIT - 200), b"") + b"--b--\r\n"),
        "64 images in a form": lambda: form(noise(LIMIT // MOST_IMAGES - 500), MOST_IMAGES),
        "tiny JSON values": lambda: json_body(text % ",".join(["0"] * (LIMIT // 2 - 20))),
        "tiny JSON texts": lambda: json_body(text % ",".join(['""'] * (LIMIT // 3 - 20))),
        "tiny JSON fields": lambda: json_body("{" + ",".join(f'"{n:07}":0' for n in range(LIMIT // 12 - 20)) + "}"),
        "deep JSON": lambda: json_body("[" * (LIMIT - 20)),
        "deep JSON in images": lambda: json_body(text % ("[" * (LIMIT - 40))),
        "JSON of blanks": lambda: json_body("{" + " " * (LIMIT - 20)),
        "JSON of escapes": lambda: json_body(one % ("\\u0041" * (LIMIT // 6 - 20))),
        "base64 of one image": lambda: json_body(one % base64(noise(LIMIT * 3 // 4 - 99))),
        "base64 in lines": lambda: json_body(one % ("A\\n" * (LIMIT // 3 - 20))),
        "64 images in JSON": lambda: json_body(
            text % ",".join([f'"{base64(noise(LIMIT * 3 // 4 // MOST_IMAGES - 99))}"'] * MOST_IMAGES)
        ),
        "one image": lambda: Body(PREDICT, RAW, noise(LIMIT - 99)),
        "50 megapixels in a PNG": lambda: Body(PREDICT, RAW, encoded(np.zeros((7000, 7000), np.uint8))),
        "zeros, compressed": lambda: Body(PREDICT, RAW, gzip.compress(bytes(LIMIT - 99)), "Content-Encoding: gzip\r\n"),
        "more zeros, compressed": lambda: Body(
            PREDICT, RAW, gzip.compress(bytes(1 << 30), 9), "Content-Encoding: gzip\r\n"
        ),
        "tiny JSON values, compressed": lambda: Body(
            PREDICT,
            JSON,
            gzip.compress((text % ",".join(["0"] * (LIMIT // 2 - 20))).encode()),
            "Content-Encoding: gzip\r\n",
        ),
        "noise, compressed": lambda: Body(
            PREDICT, RAW, gzip.compress(noise(LIMIT - 9999), 1), "Content-Encoding: gzip\r\n"
        ),
        "chunks of one byte": lambda: Body(PREDICT, RAW, noise(LIMIT // 8), chunk=1),
        "chunks of one byte in JSON": lambda: Body(PREDICT, JSON, b"{" + b" " * (LIMIT // 8), chunk=1),
        "pixels of 64 images, as JSON numbers": lambda: Body(INFER, JSON, (number % ",".join(["0"] * 50_176)).encode()),
        "too many pixels, as JSON numbers": lambda: Body(
            INFER, JSON, (number % ",".join(["0"] * (LIMIT // 2 - 99))).encode()
        ),
        "too many pixels, binary": lambda: binary("UINT8", [64, 28, 28, 1], bytes(LIMIT - 999)),
        "64 images, binary": lambda: binary(
            "BYTES", [MOST_IMAGES], with_length(noise(LIMIT // MOST_IMAGES - 99)) * MOST_IMAGES
        ),
        "empty elements, binary": lambda: binary("BYTES", [LIMIT // 4 - 99], bytes(LIMIT - 999)),
        "a long JSON head, binary": lambda: Body(
            INFER, RAW, b"[" * (LIMIT - 999), f"Inference-Header-Content-Length: {LIMIT - 999}\r\n"
        ),
    }


def field(content: bytes, name: bytes = b'; filename="a"') -> bytes:
    """One part of a form."""
    return b'--b\r\nContent-Disposition: form-data; name="a"%b\r\n\r\n%b\r\n' % (name, content)


def form(content: bytes, parts: int) -> Body:
    """The same part so often."""
    return Body(PREDICT, FORM, (field(content) * parts)[: LIMIT - 99] + b"--b--\r\n")


def json_body(text: str) -> Body:
    """A text that is sent as JSON."""
    return Body(PREDICT, JSON, text.encode())


def binary(datatype: str, shape: list[int], content: bytes) -> Body:
    """One tensor behind its JSON."""
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": "image", "datatype": datatype, "shape": shape, "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return Body(INFER, RAW, head + content, f"Inference-Header-Content-Length: {len(head)}\r\n")


def with_length(content: bytes) -> bytes:
    """An element of a binary tensor."""
    return struct.pack("<I", len(content)) + content


def noise(size: int) -> bytes:
    """A BMP of at most so many bytes: what decodes quickly and does not compress."""
    height = max(1, (size - 54) // 3000)
    width = min(1000, (size - 54) // 3 // height // 4 * 4)
    return encoded(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8), "BMP")


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """A file with these pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def base64(content: bytes) -> str:
    """As JSON takes it."""
    return b64encode(content).decode()


class Wait(NamedTuple):
    """One answer of `/livez`: how long it took, and the CPU time of the API process meanwhile, which is no more."""

    ms: float
    cpu_ms: float


def poll(port: int, api_process: int, done: Connection) -> None:
    """Ask until told to end; send all waits."""
    found: list[Wait] = []
    cpu_clock = (~api_process << 3) | 2  # clock_getcpuclockid(3) makes it so
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(TIMEOUT_S)
        while not done.poll():
            cpu_s, began_s = time.clock_gettime(cpu_clock), time.perf_counter()
            connection.sendall(PROBE)
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += connection.recv(1 << 16)
            ms, cpu_ms = 1e3 * (time.perf_counter() - began_s), 1e3 * (time.clock_gettime(cpu_clock) - cpu_s)
            found.append(Wait(ms, min(ms, cpu_ms)))
            time.sleep(PERIOD_S)
    done.send(found)


@contextlib.contextmanager
def polled(running: Running) -> Iterator[list[Wait]]:
    """The waits of the time inside; they are there once it is over."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    api_process = next(pid for pid in running.session.pids() if comm(pid).startswith("api-"))
    poller = context.Process(target=poll, args=(running.port, api_process, theirs))
    poller.start()
    found: list[Wait] = []
    yield found
    ours.send(None)
    found += ours.recv()
    poller.join()


def comm(pid: int) -> str:
    """What `ps` shows of a process."""
    return Path(f"/proc/{pid}/comm").read_text().strip()


def ask(port: int, message: bytes) -> int:
    """Send a request; its status. Of a refusal the answer comes while the rest is still sent."""
    with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as connection:
        connection.sendall(message)
        return int(connection.recv(1 << 16).split()[1])


@dataclass(frozen=True, slots=True)
class Silence:
    """What was seen of one body in one round."""

    body: str
    status: int
    seconds: float
    longest_ms: float
    p99_ms: float
    longest_cpu_ms: float


def measure(running: Running, name: str, message: bytes | None) -> Silence:
    """The waits while one body is sent and answered; without one, of an idle server."""
    status = 200
    with polled(running) as waits:
        began = time.perf_counter()
        if message is None:
            time.sleep(IDLE_S)
        else:
            time.sleep(20 * PERIOD_S)
            status = ask(running.port, message)
        seconds = time.perf_counter() - began
    ms = [wait.ms for wait in waits]
    return Silence(name, status, seconds, max(ms), float(np.percentile(ms, 99)), max(wait.cpu_ms for wait in waits))


def main() -> None:
    """Measure each body in each round, print the medians, and write the result."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="bodies whose names have this in them; nothing is written then")
    options = parser.parse_args()
    chosen = {name: make for name, make in bodies().items() if options.only in name}
    found: list[Silence] = []
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running, _ = stack.enter_context(started(SERVERS["ours"], mnist_workload(ZOO, folder), folder))
        found += [measure(running, "none", None) for _ in range(options.rounds)]
        for name, make in chosen.items():
            message = make().message()
            found += [measure(running, name, message) for _ in range(options.rounds)]
    table = Table("body", "status", "s", "longest wait, ms", "p99", "CPU in a wait, ms")
    for name in ("none", *chosen):
        rounds = [one for one in found if one.body == name]
        figures = ("seconds", "longest_ms", "p99_ms", "longest_cpu_ms")
        medians = [Spread.of([getattr(one, figure) for one in rounds]).median for figure in figures]
        table.add_row(name, " ".join({str(one.status) for one in rounds}), *(f"{value:.1f}" for value in medians))
    Console().print(table)
    if not options.only:
        document = {**serving_surroundings("benchmarks.silence"), "waits": [asdict(one) for one in found]}
        (RESULTS / "silence.json").write_text(json.dumps(document, indent=1) + "\n")


if __name__ == "__main__":
    main()
