"""Processes as the supervisor sees them: when they are started again, and when they count as hung."""

import os
from itertools import pairwise

import pytest

from service.ipc.channels import Channels
from service.policy import LONG_LIFE_S, UNREAD_LIMIT_S
from service.supervisor.children import Child, WorkerChild


def test_a_process_that_dies_again_and_again_is_started_later_and_later() -> None:
    """At once the first time, later each time up to a limit, and at once again after a long life."""
    child, now = Child(0), 1000.0
    waits = []
    for _ in range(7):
        child.born_s = now
        child.plan_restart(now + 1)
        waits.append(child.restart_at_s - now - 1)
        now = child.restart_at_s
    *growing, before_last, last = waits
    assert waits[0] == 0
    assert all(later > sooner + 0.1 for sooner, later in pairwise(growing))
    assert growing[-1] == pytest.approx(before_last) == pytest.approx(last)
    assert last < LONG_LIFE_S
    child.born_s = now
    child.plan_restart(now + LONG_LIFE_S + 1)
    assert child.restart_at_s == pytest.approx(now + LONG_LIFE_S + 1)


def test_a_worker_that_takes_nothing_up_is_noticed() -> None:
    channels = Channels(workers=1, api_processes=1, slots=1, input_bytes=1, classes=2)
    worker, shared_state = WorkerChild(0), channels.shared_state
    assert not worker.leaves_unread(channels, 0.0)
    os.write(channels.requests[0].writer, b"a batch")
    noticed = 1 + UNREAD_LIMIT_S + 0.1
    assert [worker.leaves_unread(channels, now) for now in (1.0, 2.0, noticed)] == [False, False, True]
    shared_state.taken[0, 0] = 7  # it has taken one up meanwhile: this is another that waits
    assert [worker.leaves_unread(channels, now) for now in (noticed, noticed + 1)] == [False, False]
    shared_state.began_ns[0] = 1  # it is busy
    assert not worker.leaves_unread(channels, noticed + 10)
    channels.requests[0].drain()
    shared_state.began_ns[0] = 0
    assert not worker.leaves_unread(channels, noticed + 20)
