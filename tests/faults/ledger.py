"""Clients that keep a ledger: every request that was sent, and the answer that came, or how its connection ended."""

import http.client
import itertools
import json
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.artifacts import LABELS
from tests.service.pictures import Pixels, check, decode, encode, pixels, png
from tests.service.served import DEADLINE_S, Served, until

DEAR, PHOTOS = "dear", ("photos", (12, 12, 3))  # models beside the default one; the second with its input's shape
GOOD = 255  # value of a picture's first pixel that asks no graph to misbehave
MARGIN_S = 1.0  # an answer may come this much later than the request's deadline
PICTURES = 16
CONNECTIONS = 8


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: the route, the body, and the pixels that the model gets to see."""

    path: str
    body: bytes
    pixels: Pixels

    @classmethod
    def of_default(cls, seed: int) -> "Question":
        """A PNG that is decoded in passing."""
        return cls("/predict", png(seed, GOOD), pixels(seed, GOOD))

    @classmethod
    def of_dear(cls) -> "Question":
        """The same for a model whose images take ten thousand times as long."""
        return cls(f"/models/{DEAR}/predict", png(0, GOOD), pixels(0, GOOD))

    @classmethod
    def of_photos(cls, seed: int) -> "Question":
        """A JPEG, which is decoded on a thread."""
        name, shape = PHOTOS
        photo = encode(pixels(seed, GOOD, shape), "JPEG")
        return cls(f"/models/{name}/predict", photo, decode(photo, "RGB"))


@dataclass(frozen=True, slots=True)
class Entry:
    """One request."""

    status: int  # 0: no answer
    code: str  # of a problem; without an answer: `refused` if there was no connection, `cut` if it ended
    seconds: float


class Ledger:
    """Connections that send one request after the other, each with a deadline, until the load ends."""

    def __init__(
        self,
        served: Served,
        connections: int,
        timeout_s: float,
        questions: Sequence[Question],
        labels: Mapping[str, tuple[str, ...]] | None = None,
        key: str | None = None,
    ) -> None:
        """`labels` by version of the model, of those that have others than the usual ones; `key` to be let in."""
        self._host, self._port = served.address
        self._timeout_s = timeout_s
        self._questions, self._labels = questions, labels or {}
        self._headers = {"X-Request-Timeout-Ms": str(int(timeout_s * 1000))}
        if key:
            self.take_key(key)
        self._ending = threading.Event()
        self.entries: list[Entry] = []
        self.wrong: list[AssertionError] = []
        self._threads = [threading.Thread(target=self._send_many, args=(i,)) for i in range(connections)]

    def take_key(self, key: str) -> None:
        """Send this key from the next request on."""
        self._headers = self._headers | {"X-API-Key": key}

    def start(self) -> None:
        """Begin to send."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Send no more, and wait for the answers that are due."""
        self._ending.set()
        for thread in self._threads:
            thread.join(DEADLINE_S)
            assert not thread.is_alive(), "a request hangs"

    def wait_for(self, more: int) -> None:
        """Wait until that many more requests have been answered well."""
        goal = self.count(200) + more
        until(lambda: self.count(200) >= goal, f"{more} more good answers; so far {self.summary()}")

    def count(self, status: int) -> int:
        """How many requests ended so."""
        return sum(entry.status == status for entry in list(self.entries))

    def summary(self) -> Counter[tuple[int, str]]:
        """How many requests ended with which status and code."""
        return Counter((entry.status, entry.code) for entry in list(self.entries))

    def _send_many(self, number: int) -> None:
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout_s + 10 * MARGIN_S)
        for question in itertools.islice(itertools.cycle(self._questions), number, None):
            if self._ending.is_set():
                break
            self.entries.append(self._send(connection, question))
        connection.close()

    def _send(self, connection: http.client.HTTPConnection, question: Question) -> Entry:
        began = time.monotonic()
        try:
            connection.request("POST", question.path, question.body, self._headers)
            response = connection.getresponse()
            answer = json.loads(response.read())
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            time.sleep(0.01)  # a server that is gone is not to be asked in a busy loop
            ending = "refused" if isinstance(error, ConnectionRefusedError) else "cut"
            return Entry(0, ending, time.monotonic() - began)
        if response.status == 200:
            try:
                check(answer, question.pixels, self._labels.get(answer["version"], LABELS))
            except AssertionError as error:
                self.wrong.append(error)
        elif response.status == 503:
            time.sleep(0.01)
        return Entry(response.status, answer.get("code", ""), time.monotonic() - began)


DEFAULT_ALONE = [Question.of_default(seed) for seed in range(PICTURES)]
ALL_MODELS = [*DEFAULT_ALONE, *map(Question.of_photos, range(PICTURES // 4)), Question.of_dear()]


@contextmanager
def load(
    served: Served,
    connections: int = CONNECTIONS,
    timeout_s: float = 10.0,
    questions: Sequence[Question] = ALL_MODELS,
    labels: Mapping[str, tuple[str, ...]] | None = None,
    key: str | None = None,
) -> Iterator[Ledger]:
    """Load from the first good answers on; afterwards every answer must have been right, or an error, and in time."""
    ledger = Ledger(served, connections, timeout_s, questions, labels, key)
    ledger.start()
    try:
        ledger.wait_for(20)
        yield ledger
    finally:
        ledger.stop()
    assert not ledger.wrong, ledger.wrong[0]
    late = [entry for entry in ledger.entries if entry.seconds > timeout_s + MARGIN_S]
    assert not late, f"{len(late)} answers came too late, the latest after {max(e.seconds for e in late):.2f} s"
