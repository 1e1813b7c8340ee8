"""Which requests are admitted: bounds on slots, on the bytes of bodies in flight, and on the time a request would wait.

Checked at the headers and again when a body is complete. Refusing early keeps the latency of the admitted ones.
"""

import math
from collections.abc import Sequence

from service.batching.decode_estimate import DecodeEstimate
from service.batching.wait_estimate import WaitEstimate
from service.errors import DeadlineExceeded, TooLarge, Unavailable
from service.policy import WAIT_SHARE

_MOST_PARTS = 1024  # of a body that are held as they came; the usual ones have 16 to 256 KiB


class Admission:
    """The slots of one API process, free or held by images of a model, and the bytes of bodies it still takes.

    Slots are handed out last in, first out: few requests in flight touch few slots, and so little memory. While several
    models are in demand each of them has a part of the slots that the others cannot take.
    """

    def __init__(
        self,
        slots: range,
        max_bytes_in_flight: int,
        wait_estimate: WaitEstimate,
        decode_estimate: DecodeEstimate,
        target_latency_s: float = math.inf,
    ) -> None:
        self.capacity = len(slots)
        self._wait_estimate, self._decode_estimate = wait_estimate, decode_estimate
        self._target_latency_s = target_latency_s
        self._models: dict[int, int] = {}  # by slot, of those that are not free
        self._free = list(reversed(slots))
        self.bytes_left = max_bytes_in_flight
        self.open = False
        self.draining = False
        self.late = 0
        """Requests that were refused because they had lain here for too long before the event loop came to them."""
        self.restart_s: float | None = None  # while no worker is up: what a start takes

    @property
    def places_taken(self) -> int:
        """Slots that are not free."""
        return self.capacity - len(self._free)

    def check(self, model: int, left_s: float, late_s: float = 0.0, *, needs_decoder: bool = True) -> None:
        """Raise Unavailable if a request to this model that begins now, with so many seconds left, would be refused.

        It has lain here for `late_s` before the event loop came to it; so will those that arrive now. Only one that
        `needs_decoder` waits for what the decoders have to do. DeadlineExceeded if no time is left.
        """
        if left_s <= 0:
            self.late += 1
            raise DeadlineExceeded("the deadline passed while the server had no time for the request")
        if self.draining:
            raise Unavailable("draining", "the server is shutting down")
        if not self.open:
            raise Unavailable("loading", "the models are still loading")
        if self.restart_s is not None:
            raise no_worker(self.restart_s)
        self._wait_estimate.note_demand(model)
        self._check_slots(1, model)
        self._check_wait(model, left_s, needs_decoder, late_s)

    def acquire(self, n: int, model: int, left_s: float, decoding_s: float = 0.0) -> list[int]:
        """Slots for n images of a model in a request with so many seconds left: all, or none and Unavailable.

        To decode them takes `decoding_s` of that time, 0 if they need no decoder.
        """
        if n > self.capacity:
            raise TooLarge(f"{n} images in one request; this server holds {self.capacity} at a time")
        self._check_slots(n, model)
        self._check_wait(model, left_s, decoding_s > 0, decoding_s=decoding_s)
        slots = self._free[-n:]
        del self._free[-n:]
        for slot in slots:
            self._models[slot] = model
        self._wait_estimate.add(model, n)
        return slots

    def release(self, slots: Sequence[int]) -> None:
        """Take slots back."""
        models = [self._models.pop(slot) for slot in slots]
        self._free.extend(slots)
        for model in set(models):
            self._wait_estimate.add(model, -models.count(model))

    @property
    def half_is_free(self) -> bool:
        """Whether at least half of all slots are free."""
        return 2 * len(self._free) >= self.capacity

    def pass_on(self, slot: int, model: int) -> None:
        """Let a slot that an image leaves be held by one of this model."""
        self._wait_estimate.add(self._models[slot], -1)
        self._models[slot] = model
        self._wait_estimate.add(model, 1)

    def reserve_bytes(self, n: int) -> None:
        """Count n bytes of a body that have arrived, or raise Unavailable."""
        if n > self.bytes_left:
            raise self.full_of_bytes()
        self.bytes_left -= n

    def return_bytes(self, n: int) -> None:
        """Take n bytes back."""
        self.bytes_left += n

    def _check_slots(self, n: int, model: int) -> None:
        """Raise Unavailable if there are too few slots, or those left are what other models in demand are due."""
        demand = self._wait_estimate.demand
        reserved = self._wait_estimate.due(model, self.capacity // (2 * demand)) if demand > 1 else 0
        if n + reserved > len(self._free):
            kept = f", {reserved} are kept for other models" if reserved else ""
            raise Unavailable("full", f"{self.places_taken} of {self.capacity} places are taken{kept}")

    def _check_wait(
        self, model: int, left_s: float, needs_decoder: bool, late_s: float = 0.0, decoding_s: float = 0.0
    ) -> None:
        """Raise Unavailable if the wait is too long; an empty server that is not late tries, however short the time."""
        wait_s = late_s + self._wait_estimate.wait_s(model)
        if needs_decoder:
            wait_s += self._decode_estimate.wait_s
        most_s = min((left_s - decoding_s) * WAIT_SHARE, self._target_latency_s)
        if wait_s > most_s and (late_s > most_s or len(self._free) < self.capacity):
            self.late += late_s > max(0.0, most_s)
            decoding = f", for its images take {decoding_s:.3f} s to decode" if decoding_s > left_s else ""
            raise Unavailable(
                "full",
                f"what came before it takes {wait_s:.3f} s; this request can wait {max(0.0, most_s):.3f} s at most"
                f"{decoding}",
                retry_after_s=math.ceil(wait_s - most_s),
            )

    def full_of_bytes(self) -> Unavailable:
        """The refusal of a body for which there is no room now."""
        return Unavailable("full", "too many bytes of request bodies are in flight")


def no_worker(restart_s: float) -> Unavailable:
    """The error while none is up, if a start takes so long."""
    return Unavailable("worker_lost", "no worker is up; another is being started", retry_after_s=math.ceil(restart_s))


class IncomingBody:
    """One request's body as it arrives: bounded, and counted against the bytes in flight until `close`.

    Only what has arrived counts: what clients merely declare costs nothing, and must not keep others out.
    """

    __slots__ = ("_admission", "_declared", "_max_bytes", "_parts", "_size")

    def __init__(self, admission: Admission, max_bytes: int, content_length: int | None) -> None:
        """`content_length` is what the headers declare, None for a chunked body; TooLarge or Unavailable."""
        self._admission, self._max_bytes = admission, max_bytes
        self._parts: list[bytes | bytearray] = []
        self._size, self._declared = 0, content_length or 0
        if self._declared > max_bytes:
            raise self._too_large()
        if self._declared > admission.bytes_left:
            raise admission.full_of_bytes()

    def feed(self, part: bytes) -> None:
        """Take the next part of the body; TooLarge or Unavailable if there is no room for it."""
        size = len(part)
        if self._size + size > self._max_bytes:
            raise self._too_large()
        self._admission.reserve_bytes(size)
        self._size += size
        if len(self._parts) < _MOST_PARTS:
            self._parts.append(part)
        else:
            self._extend(part)

    def _extend(self, part: bytes) -> None:
        """Add to the last part: millions of tiny chunks, each an object, would take twenty times their size."""
        last = self._parts[-1]
        if not isinstance(last, bytearray):
            last = self._parts[-1] = bytearray(last)
        last += part

    def _too_large(self) -> TooLarge:
        return TooLarge(f"the body is over the limit of {self._max_bytes} bytes")

    @property
    def missing_bytes(self) -> int:
        """How much is still to come; 0 for a chunked body."""
        return max(self._declared - self._size, 0)

    @property
    def content(self) -> bytes:
        """What has arrived, which is held once, however it came."""
        if len(self._parts) != 1:
            self._parts = [b"".join(self._parts)]
        return bytes(self._parts[0])

    def reserve(self, n: int) -> None:
        """Count n bytes more, which a compressed body may become; Unavailable if there is no room for them."""
        self._admission.reserve_bytes(n)
        self._size += n

    def replace(self, size: int) -> None:
        """Forget the body, and count instead the images of this size, no larger, that were found in it."""
        self._admission.return_bytes(self._size - size)
        self._parts, self._size = [], size

    def close(self) -> None:
        """Give the bytes back."""
        self.replace(0)
