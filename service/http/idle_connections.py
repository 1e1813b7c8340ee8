"""Idle connections, which make room for new ones where no descriptors are left."""

import asyncio
import heapq
from collections.abc import Iterable
from operator import attrgetter

from service.http.connection import HttpConnection
from service.policy import SPARED_IDLE_S


def make_room(connections: Iterable[object], most: int) -> int:
    """Close those of HTTP that have been idle longest, so many at most; how many there are of these.

    One whose last request was answered a moment ago is spared.
    """
    latest_s = asyncio.get_running_loop().time() - SPARED_IDLE_S
    idle = [one for one in connections if isinstance(one, HttpConnection) and one.idle_since_s < latest_s]
    longest = heapq.nsmallest(most, idle, key=attrgetter("idle_since_s"))
    for connection in longest:
        connection.give_way()
    return len(longest)
