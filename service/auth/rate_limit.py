"""How often one may ask: token buckets in shared memory, which all API processes take from exactly.

A bucket is one number, the time at which it will be full again (the generic cell rate algorithm: a token bucket without
a timer). Buckets lie in a table of fixed size, found by a digest of their owner. In a group of a few a newcomer takes
the place of the one that is nearest to full, which as a rule is full, and so as good as none.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import blake2b

from service.ipc.shared_memory import SharedMemory
from service.policy import LOCK_PATIENCE_S

GROUPS, GROUP_SIZE = 4096, 8  # of buckets: half a MiB
_BUCKET_BYTES = 16  # its owner's digest, and when it is full
_GROUP_BYTES = GROUP_SIZE * _BUCKET_BYTES


class RateLimit:
    """`per_s` requests a second for each owner, of which `burst` may come at once.

    Made before the API processes, which inherit it. Two that take from one group wait for each other for microseconds:
    the kernel holds the lock, and takes it back from a process that dies (fcntl(2)). One that was stopped meanwhile is
    waited for for LOCK_PATIENCE_S; what is taken then may be taken twice.
    """

    def __init__(
        self, per_s: float, burst: int, *, shared: bool = True, clock_ns: Callable[[], int] = time.monotonic_ns
    ) -> None:
        """`shared`: several processes take from it."""
        self._token_ns = int(1e9 / per_s)
        self._depth_ns = burst * self._token_ns
        self._clock_ns, self._shared = clock_ns, shared
        self._memory = SharedMemory(GROUPS * _GROUP_BYTES)
        self._cells = memoryview(self._memory.map).cast("q")
        self._salt = os.urandom(16)  # so that no client can choose which group it falls into

    def take(self, owner: str) -> float:
        """Take a token of this owner's; 0.0, or the seconds until there will be one, and none is taken."""
        digest = blake2b(owner.encode(), digest_size=16, key=self._salt).digest()
        group, name = int.from_bytes(digest[:8], "little") % GROUPS, int.from_bytes(digest[8:], "little", signed=True)
        with self._locked(group):
            return self._take(group, name)

    def _take(self, group: int, name: int) -> float:
        cells, now_ns = self._cells, self._clock_ns()
        places = range(2 * group * GROUP_SIZE, 2 * (group + 1) * GROUP_SIZE, 2)
        place = next((place for place in places if cells[place] == name), None)
        if place is None:
            place = min(places, key=lambda place: cells[place + 1])
            cells[place], cells[place + 1] = name, 0
        full_ns = max(cells[place + 1], now_ns) + self._token_ns
        if (wait_ns := full_ns - now_ns - self._depth_ns) > 0:
            return wait_ns / 1e9
        cells[place + 1] = full_ns
        return 0.0

    @contextmanager
    def _locked(self, group: int) -> Iterator[None]:
        if not self._shared:
            yield
            return
        region = _GROUP_BYTES, group * _GROUP_BYTES
        ends_s = time.monotonic() + LOCK_PATIENCE_S
        while not self._lock(region) and time.monotonic() < ends_s:
            os.sched_yield()
        try:
            yield
        finally:
            fcntl.lockf(self._memory.fd, fcntl.LOCK_UN, *region)

    def _lock(self, region: tuple[int, int]) -> bool:
        """Whether no other process has this region of the memory; then this one has."""
        try:
            fcntl.lockf(self._memory.fd, fcntl.LOCK_EX | fcntl.LOCK_NB, *region)
        except BlockingIOError:
            return False
        return True
