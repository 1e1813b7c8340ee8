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
        shared_state.taken[first, 1] = 7
        shared_state.loads_ns[first][1], shared_state.held_ns[0], shared_state.beats[1] = 1, 2, 3
        os._exit(0)
    os.waitpid(child, 0)
    assert (shared_state.began_ns.tolist(), shared_state.limit_ns.tolist()) == ([0, 0, 0, 100], [0, 0, 0, 50])
    assert shared_state.taken.tolist() == [[0, 0], [0, 7], [0, 0], [0, 0]]
    assert [list(loads) for loads in shared_state.loads_ns] == [[0, 0], [0, 1], [0, 0], [0, 0]]
    assert (list(shared_state.held_ns), list(shared_state.beats)) == ([2, 0], [0, 3])
