"""What every process may know of the workers."""

import os

from service.ipc.shared_state import SharedState


def test_each_thread_of_a_seat_has_a_row_of_its_own() -> None:
    shared_state = SharedState(seats=3, api_processes=2)
    rows = [row for seat in range(3) for row in shared_state.rows_of(seat)]
    assert sorted(rows) == list(range(len(shared_state.epochs))) == list(range(len(shared_state.loads_ns)))


def test_what_a_forked_process_writes_another_reads_in_its_place_alone() -> None:
    shared_state = SharedState(seats=2, api_processes=2)
    first, express = shared_state.rows_of(1)
    if not (child := os.fork()):
        shared_state.began_ns[express], shared_state.limit_ns[express] = 100, 50
        shared_state.taken[first, 1], shared_state.done[express, 0] = 7, 6
        shared_state.loads_ns[first][1], shared_state.held_ns[0], shared_state.beats[1] = 1, 2, 3
        shared_state.loads_ns[express][-1], shared_state.first_batches[1] = 4, 5
        shared_state.epochs[first], shared_state.loading[first], shared_state.connections[0] = 8, 9, 10
        os._exit(0)
    os.waitpid(child, 0)
    assert (shared_state.began_ns.tolist(), shared_state.limit_ns.tolist()) == ([0, 0, 0, 100], [0, 0, 0, 50])
    assert shared_state.taken.tolist() == [[0, 0], [0, 7], [0, 0], [0, 0]]
    assert shared_state.done.tolist() == [[0, 0], [0, 0], [0, 0], [6, 0]]
    assert [list(loads) for loads in shared_state.loads_ns] == [[0, 0, 0], [0, 1, 0], [0, 0, 0], [0, 0, 4]]
    assert (list(shared_state.held_ns), list(shared_state.beats)) == ([2, 0], [0, 3])
    assert (list(shared_state.first_batches), list(shared_state.connections)) == ([0, 5], [10, 0])
    assert (shared_state.epochs.tolist(), shared_state.loading.tolist()) == ([0, 8, 0, 0], [0, 9, 0, 0])


def test_what_a_dead_api_process_held_and_had_sent_counts_no_more() -> None:
    shared_state = SharedState(seats=1, api_processes=2)
    for numbers in (shared_state.held_ns, shared_state.connections, *shared_state.loads_ns):
        for api in range(len(numbers)):
            numbers[api] = 1 + api
    shared_state.end_life(0)
    assert list(shared_state.held_ns) == list(shared_state.connections) == [0, 2]
    assert [list(loads) for loads in shared_state.loads_ns] == [[0, 2, 3]] * 2


def test_nothing_of_a_dead_worker_runs_any_more_in_its_seat() -> None:
    shared_state = SharedState(seats=2, api_processes=2)
    for row in range(4):
        shared_state.began_ns[row], shared_state.taken[row, 1], shared_state.loads_ns[row][-1] = 1, 7, 3
        shared_state.loading[row] = 2
    shared_state.begin_life(1, 5)
    first, express = shared_state.rows_of(1)
    assert (shared_state.epochs[first], shared_state.epochs[express]) == (5, 0)
    for row in range(4):
        dead = row in (first, express)
        assert (shared_state.began_ns[row], shared_state.loads_ns[row][-1]) == ((0, 0) if dead else (1, 3))
        assert shared_state.loading[row] == (0 if dead else 2)
        assert shared_state.done[row].tolist() == ([0, 7] if dead else [0, 0])
