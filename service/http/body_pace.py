"""Whether the rest of a body comes fast enough to be waited for."""

from service.policy import BODY_BYTES_PER_S


class BodyPace:
    """The pace of one body that did not come at once.

    A client may be silent for `patience_s`. After as long, what has come in all must have come at the least average
    rate, or one that sends a byte now and then would hold its connection. Times are ns of the monotonic clock.
    """

    def __init__(self, began_ns: int, patience_s: float) -> None:
        self._began_ns = self._heard_ns = began_ns
        self._patience_ns = int(patience_s * 1e9)
        self._bytes = 0

    def note(self, n: int, now_ns: int) -> None:
        """Count n bytes that have come now."""
        self._bytes += n
        self._heard_ns = now_ns

    @property
    def latest_ns(self) -> int:
        """When the client's patience would be over if nothing had come."""
        return self._began_ns + self._patience_ns

    @property
    def ends_ns(self) -> int:
        """Until when the client has to send something, or more."""
        paced_ns = self.latest_ns + self._bytes * 1_000_000_000 // BODY_BYTES_PER_S
        return min(self._heard_ns + self._patience_ns, paced_ns)
