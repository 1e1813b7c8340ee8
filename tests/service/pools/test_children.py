"""Processes as the supervisor sees them: when they are started again, and when they count as hung."""

import gc
import math
import multiprocessing
import os
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from service.ipc.channels import Channels
from service.ipc.control import Begin
from service.ipc.messages import PROBE
from service.ipc.pipe import Pipe
from service.ipc.reports import ModelReport
from service.ipc.shared_state import SharedState
from service.policy import EXCUSED_S, LONG_LIFE_S, PROBE_INTERVAL_S, SILENCE_LIMIT_S, UNREAD_LIMIT_S, WATCH_INTERVAL_S
from service.pools.children import ApiChild, Child, StillWatch, WorkerChild


def test_a_process_that_dies_again_and_again_is_started_later_and_later() -> None:
    """At once the first time, later each time up to a limit, and at once again after a long life."""
    child, now = Child(0), 1000.0
    waits = []
    for _ in range(7):
        child.begin_life(now)
        child.up_s = now
        child.plan_restart(now + 1)
        waits.append(child.restart_at_s - now - 1)
        now = child.restart_at_s
    *growing, before_last, last = waits
    assert waits[0] == 0
    assert all(later > sooner + 0.1 for sooner, later in pairwise(growing))
    assert growing[-1] == pytest.approx(before_last) == pytest.approx(last)
    assert last < LONG_LIFE_S
    child.begin_life(now)
    child.plan_restart(now + 10 * LONG_LIFE_S)  # which it was never up in
    assert child.restart_at_s == pytest.approx(now + 10 * LONG_LIFE_S + growing[-1])
    child.begin_life(now)
    child.up_s = now + 10 * LONG_LIFE_S
    child.plan_restart(now + 11 * LONG_LIFE_S + 1)
    assert child.restart_at_s == pytest.approx(now + 11 * LONG_LIFE_S + 1)


def test_an_api_process_is_up_from_its_first_heartbeat_on() -> None:
    api, begin, end = ApiChild(0), 1000.0, 1000.0 + 2 * LONG_LIFE_S
    api.begin_life(begin)
    assert not api.is_silent(0, begin + 1)
    assert not api.ever_up
    api.plan_restart(end)
    api.plan_restart(end)
    api.begin_life(begin)
    for beat, now_s in enumerate((begin + 1, end), 1):
        assert not api.is_silent(beat, now_s)
    assert api.ever_up
    assert api.deaths == 2
    api.plan_restart(end)
    assert (api.deaths, api.restart_at_s) == (1, end)  # at once, since it has lived long


def test_a_life_begins_with_nothing_of_the_last() -> None:
    worker, api = WorkerChild(0), ApiChild(0)
    for child in (worker, api):
        child.begin_life(1000.0)
        child.up_s, child.killed_as = 1001.0, "hang"
        child.plan_restart(1002.0)
        child.begin_life(1003.0)
        assert (child.born_s, child.up_s, child.restart_at_s, child.killed_as) == (1003.0, math.inf, math.inf, None)
    worker.up, worker.unparsed, worker.reports = True, b"half a li", {0: ModelReport(0, "ready")}
    api.taken = api.released = 7
    for child in (worker, api):
        child.begin_life(1004.0)
    assert (worker.epoch, worker.up, worker.unparsed, worker.reports) == (3, False, b"", {})
    assert (api.taken, api.released) == (-1, -1)  # no set of models has this number


def test_the_pipe_of_a_life_is_closed_with_it() -> None:
    gc.collect()  # what others left open is closed before
    api, before = ApiChild(0), set(Path("/proc/self/fd").iterdir())
    api.close_control()
    for _ in range(2):
        control = api.open_control()
        assert api.control is control
        assert api.writer
        api.writer.send(Begin(5))
        assert b'"begin"' in os.read(control.reader, 1 << 16)
        api.close_control()
        assert (api.control, api.writer) == (None, None)
        assert set(Path("/proc/self/fd").iterdir()) == before


def test_an_api_process_without_heartbeat_is_noticed_unless_nobody_looked() -> None:
    api = ApiChild(0)
    api.begin_life(1000.0)
    looks = [1000 + i * WATCH_INTERVAL_S for i in range(1, 1000)]
    assert not any(api.is_silent(beat, now) for beat, now in enumerate(looks))
    assert api.ever_up
    begin, beat = looks[-1], len(looks) - 1
    assert not api.is_silent(beat, begin + 100 * SILENCE_LIMIT_S)  # the whole machine stood still
    times = [begin + 100 * SILENCE_LIMIT_S + i * WATCH_INTERVAL_S for i in range(1, 1000)]
    noticed = next(now for now in times if api.is_silent(beat, now))
    assert noticed - times[0] == pytest.approx(SILENCE_LIMIT_S, abs=4 * WATCH_INTERVAL_S)
    api.begin_life(noticed)
    assert not api.is_silent(beat, noticed + WATCH_INTERVAL_S)


@pytest.mark.parametrize("thread", [0, 1], ids=["first", "express"])
def test_a_worker_hangs_when_its_batch_outlasts_its_limit_unless_nobody_looked(thread: int) -> None:
    shared_state = SharedState(seats=2, api_processes=1)
    worker, row = WorkerChild(1), shared_state.rows_of(1)[thread]
    worker.begin_life(1000.0)
    shared_state.began_ns[row], shared_state.limit_ns[row] = 100, 2_000_000_000
    assert not worker.is_hung(shared_state, 1000.0)
    assert not worker.is_hung(shared_state, 2000.0)  # the whole machine stood still
    looks = [2000 + i * WATCH_INTERVAL_S for i in range(1, 1000)]
    noticed = next(now for now in looks if worker.is_hung(shared_state, now))
    assert noticed - 2000 == pytest.approx(2, abs=3 * WATCH_INTERVAL_S)
    assert not WorkerChild(0).is_hung(shared_state, noticed)
    shared_state.began_ns[row] = 200  # the next batch
    assert not worker.is_hung(shared_state, noticed + 1)
    shared_state.began_ns[row] = 0  # idle
    assert not any(worker.is_hung(shared_state, noticed + i * WATCH_INTERVAL_S) for i in range(100))


class Waiting:
    """A process that waits for a core for this share of its time."""

    def __init__(self, share: float) -> None:
        self._share = share

    def look(self, pid: int | None, gap_s: float) -> float:
        assert pid == os.getpid()
        return self._share * gap_s


@pytest.mark.parametrize("every_s", [WATCH_INTERVAL_S, 2.0], ids=["in time", "late"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99, 1.0])
def test_waiting_for_a_core_is_no_standing_still_but_not_for_ever(share: float, every_s: float) -> None:
    watch = StillWatch(core_wait=Waiting(share))  # type: ignore[arg-type]
    counted_s = min(every_s, 2 * WATCH_INTERVAL_S)
    assert watch.look(7, 100.0, os.getpid()) == 0
    looks = (100 + i * every_s for i in range(1, 10_000))
    number = next(i for i, now_s in enumerate(looks, 1) if watch.look(7, now_s, os.getpid()) > UNREAD_LIMIT_S)
    expected_s = min(UNREAD_LIMIT_S / (1 - share) if share < 1 else math.inf, UNREAD_LIMIT_S + EXCUSED_S)
    assert number * counted_s == pytest.approx(expected_s, abs=2 * counted_s)


def test_the_first_heartbeat_may_wait_for_a_core_too_but_an_express_thread_may_not() -> None:
    api, worker = ApiChild(0), WorkerChild(0)
    shared_state = SharedState(seats=1, api_processes=1)
    for child in (api, worker):
        child.process = multiprocessing.current_process()  # type: ignore[assignment]
        child.begin_life(1000.0)
    api.beats.core_wait = worker.running[0].core_wait = Waiting(1.0)  # type: ignore[assignment]
    for row in shared_state.rows_of(0):
        shared_state.began_ns[row], shared_state.limit_ns[row] = 100, 2_000_000_000
    looks = [1000 + i * WATCH_INTERVAL_S for i in range(1, int(EXCUSED_S / WATCH_INTERVAL_S))]
    assert not any(api.is_silent(0, now) for now in looks)
    assert any(worker.is_hung(shared_state, now) for now in looks)
    shared_state.began_ns[shared_state.rows_of(0)[1]] = 0
    assert not any(worker.is_hung(shared_state, now) for now in looks)


def test_a_probe_that_finds_no_room_is_none() -> None:
    """What fills the pipe came between the look into it and the probe; here the look is at an empty copy."""
    channels = Channels(workers=1, api_processes=1, slots=1, input_bytes=1, classes=2)
    pipe, empty = channels.requests[0], Pipe()
    with suppress(BlockingIOError):
        while True:
            os.write(pipe.writer, b"a batch")
    full, pipe.reader = pipe.reader, empty.reader
    assert not WorkerChild(0).leaves_unread(channels, 100.0)
    pipe.reader = full


def unread_noticed(worker: WorkerChild, channels: Channels, begin_s: float) -> float:
    """When a look notices what was first seen unread at `begin_s`: after its limit, neither sooner nor much later."""
    looks = [begin_s + i * WATCH_INTERVAL_S for i in range(1, 1000)]
    noticed_s = next(now for now in looks if worker.leaves_unread(channels, now))
    assert noticed_s - begin_s == pytest.approx(UNREAD_LIMIT_S, abs=3 * WATCH_INTERVAL_S)
    return noticed_s


def test_a_worker_that_takes_nothing_up_is_noticed() -> None:
    channels = Channels(workers=1, api_processes=1, slots=1, input_bytes=1, classes=2)
    worker, shared_state = WorkerChild(0), channels.shared_state
    assert not worker.leaves_unread(channels, 0.0)
    os.write(channels.requests[0].writer, b"a batch")
    assert not worker.leaves_unread(channels, 1.0)
    noticed = unread_noticed(worker, channels, 1.0)
    shared_state.taken[0, 0] = 7  # it has taken one up meanwhile: this is another that waits
    assert not worker.leaves_unread(channels, noticed)
    noticed = unread_noticed(worker, channels, noticed)
    shared_state.began_ns[0] = 1  # it is busy
    assert not any(worker.leaves_unread(channels, noticed + i * WATCH_INTERVAL_S) for i in range(100))
    channels.requests[0].drain()
    shared_state.began_ns[0] = 0
    assert not worker.leaves_unread(channels, noticed + 100)


def test_a_worker_that_has_nothing_to_do_is_probed_now_and_then_and_not_while_it_runs() -> None:
    channels = Channels(workers=1, api_processes=1, slots=1, input_bytes=1, classes=2)
    worker, reader = WorkerChild(0), channels.requests[0].reader
    os.set_blocking(reader, False)

    def probes(begin_s: float) -> int:
        """How many a worker reads that is looked at for a minute."""
        count = 0
        for i in range(int(60 / WATCH_INTERVAL_S)):
            assert not worker.leaves_unread(channels, begin_s + i * WATCH_INTERVAL_S)
            with suppress(BlockingIOError):
                count += len(os.read(reader, 1 << 16)) // len(PROBE)
        return count

    assert 30 / PROBE_INTERVAL_S < probes(0.0) <= 60 / PROBE_INTERVAL_S
    channels.shared_state.began_ns[0] = 1
    assert probes(60.0) == 0


def test_a_machine_that_stood_still_has_left_nothing_unread() -> None:
    channels = Channels(workers=1, api_processes=1, slots=1, input_bytes=1, classes=2)
    worker = WorkerChild(0)
    os.write(channels.requests[0].writer, b"a batch")
    assert not worker.leaves_unread(channels, 0.0)
    assert not worker.leaves_unread(channels, 100 * UNREAD_LIMIT_S)
    unread_noticed(worker, channels, 100 * UNREAD_LIMIT_S)


def test_a_worker_whose_express_thread_takes_nothing_up_is_noticed_while_the_other_runs() -> None:
    channels = Channels(workers=1, api_processes=1, slots=1, input_bytes=1, classes=2)
    worker, (first, express) = WorkerChild(0), channels.shared_state.rows_of(0)
    channels.shared_state.began_ns[first] = 1
    assert not worker.leaves_unread(channels, 0.0)
    os.write(channels.requests[express].writer, b"a batch")
    assert not worker.leaves_unread(channels, 1.0)
    noticed = unread_noticed(worker, channels, 1.0)
    worker.begin_life(noticed)
    assert not worker.leaves_unread(channels, noticed)
