"""Clients of all kinds, each a thread that asks until told to stop, and what they got."""

import base64
import io
import json
import random
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx
from PIL import Image

GOOD_CLIENTS, TIMEOUT_S = 6, 30.0
PROBE_EVERY_S, BAD_EVERY_S, LEAVE_EVERY_S = 0.005, 0.02, 0.02


@dataclass(frozen=True, slots=True)
class Ask:
    """A request, and the status that it must get."""

    path: str
    body: bytes
    content_type: str
    status: int


def good_asks(digit: bytes) -> list[Ask]:
    """A digit in every way: decoded in passing, on a thread, in a form, several at once."""
    encoded = base64.b64encode(digit).decode()
    form = b'--x\r\nContent-Disposition: form-data; name="a"; filename="a"\r\n\r\n' + digit + b"\r\n--x--\r\n"
    return [
        Ask("/predict", digit, "image/png", 200),
        Ask("/predict?top_k=3", _enlarged(digit), "image/jpeg", 200),
        Ask("/predictions/mnist-residual", form, "multipart/form-data; boundary=x", 200),
        Ask("/predict", json.dumps({"images": [encoded] * 3}).encode(), "application/json", 200),
    ]


def bad_asks(digit: bytes) -> list[Ask]:
    """What is the client's fault, of every kind that costs the server a little."""
    return [
        Ask("/predict", digit[: len(digit) // 2], "image/png", 422),
        Ask("/predict", digit[:40], "image/png", 422),
        Ask("/predict", b"no image", "image/png", 415),
        Ask("/predict", b'{"image": 7}', "application/json", 400),
        Ask("/predict?top_k=none", digit, "image/png", 400),
        Ask("/predictions/zebra", digit, "image/png", 404),
    ]


def _enlarged(digit: bytes) -> bytes:
    stream = io.BytesIO()
    Image.open(io.BytesIO(digit)).resize((280, 280)).save(stream, "JPEG")
    return stream.getvalue()


def _break_off(address: tuple[str, int], ask: Ask, rng: random.Random) -> None:
    """Leave after some part of a request, or the whole; every other time with a reset (tcp(7), SO_LINGER)."""
    head = f"POST {ask.path} HTTP/1.1\r\nHost: x\r\nContent-Type: {ask.content_type}\r\n"
    request = f"{head}Content-Length: {len(ask.body)}\r\n\r\n".encode() + ask.body
    with socket.create_connection(address, timeout=TIMEOUT_S) as wire:
        wire.sendall(request[: rng.randrange(len(request) + 1)])
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", rng.randrange(2), 0))


class Clients:
    """Good clients, bad ones, one that leaves at any point of its request, and one that asks for `/livez`.

    `provoked` counts the requests that ended as they must, by kind and status, `unprovoked` all others.
    """

    def __init__(self, url: str, digit: bytes) -> None:
        self.url, self.good, self.bad = url, good_asks(digit), bad_asks(digit)
        self._ending, self._lock = threading.Event(), threading.Lock()
        self._good_s: list[float] = []
        self._probe_s: list[float] = []
        self.provoked: Counter[str] = Counter()
        self.unprovoked: Counter[str] = Counter()
        targets = [self._be_good] * GOOD_CLIENTS + [self._probe, self._be_bad, self._leave]
        self._threads = [threading.Thread(target=target, args=(random.Random(i),)) for i, target in enumerate(targets)]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once every answer that is due has come."""
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def take(self) -> tuple[list[float], list[float]]:
        """Seconds that each good request and each probe took since the last call."""
        with self._lock:
            taken = self._good_s, self._probe_s
            self._good_s, self._probe_s = [], []
        return taken

    def _be_good(self, rng: random.Random) -> None:
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_S) as client:
            while not self._ending.is_set():
                seconds = self._ask(client, "good", rng.choice(self.good))
                with self._lock:
                    self._good_s.append(seconds)

    def _be_bad(self, rng: random.Random) -> None:
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_S) as client:
            while not self._ending.wait(BAD_EVERY_S):
                self._ask(client, "bad", rng.choice(self.bad))

    def _probe(self, _: random.Random) -> None:
        with httpx.Client(base_url=self.url, timeout=TIMEOUT_S) as client:
            while not self._ending.wait(PROBE_EVERY_S):
                seconds = self._ask(client, "probe", None)
                with self._lock:
                    self._probe_s.append(seconds)

    def _leave(self, rng: random.Random) -> None:
        parts = urlsplit(self.url)
        address = str(parts.hostname), int(parts.port or 80)
        while not self._ending.wait(LEAVE_EVERY_S):
            try:
                _break_off(address, rng.choice(self.good), rng)
                ending = "left"
            except OSError as error:
                ending = type(error).__name__
            self._count("leaving", ending, expected="left")

    def _ask(self, client: httpx.Client, kind: str, ask: Ask | None) -> float:
        """Ask, count how it ended, and tell how many seconds it took; without anything to ask, for `/livez`."""
        began = time.perf_counter()
        try:
            if ask:
                headers = {"Content-Type": ask.content_type}
                answer = client.post(ask.path, content=ask.body, headers=headers)
            else:
                answer = client.get("/livez")
            ending = str(answer.status_code)
        except httpx.HTTPError as error:
            ending = type(error).__name__
        self._count(kind, ending, expected=str(ask.status if ask else 200))
        return time.perf_counter() - began

    def _count(self, kind: str, ending: str, expected: str) -> None:
        with self._lock:
            counts = self.provoked if ending == expected else self.unprovoked
            counts[f"{kind} {ending}"] += 1
