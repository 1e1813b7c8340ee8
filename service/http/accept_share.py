"""How many connections an API process accepts at a time, so that each one gets its share of them."""

from collections.abc import Sized

from service.policy import ACCEPTED_SHARE, ACCEPTS_PER_TURN


class AcceptShare:
    """The connections of one API process beside those of the others: `counts` are of all, written by each of them.

    All are woken for a connection, and the first one there gets it. That is the same one each time, and clients that
    keep few connections open, as proxies do, would keep one core busy and leave the others idle.
    """

    def __init__(self, connections: Sized, counts: memoryview | list[int], index: int) -> None:
        self._connections = connections
        self.parts = [connections]
        """What holds the connections, those too that are being made."""
        self._counts, self._index = counts, index

    def publish(self) -> int:
        """Tell the others how many there are."""
        own = self._counts[self._index] = sum(map(len, self.parts))
        return own

    def most(self) -> int:
        """How many a turn accepts at the most; those that are being made do not count, or each turn would take more."""
        return max(ACCEPTS_PER_TURN, int(len(self._connections) * ACCEPTED_SHARE))

    def due(self) -> int:
        """How many of those this process takes at once: 0 while others have fewer and come first."""
        own = self.publish()
        if len(self._counts) == 1:
            return self.most()
        behind = sum(self._counts) / len(self._counts) - own
        return 0 if behind < 0 else min(self.most(), int(behind) + int(self.most() * ACCEPTED_SHARE))
