"""What every process may know of the workers."""

from service.ipc.shared_state import SharedState


def test_a_worker_hangs_when_its_batch_outlasts_its_limit() -> None:
    shared_state = SharedState(seats=2, api_processes=1)
    shared_state.began_ns[1], shared_state.limit_ns[1] = 100, 50
    assert [shared_state.is_hung(1, now) for now in (150, 151)] == [False, True]
    shared_state.began_ns[1] = 0  # idle
    assert not shared_state.is_hung(1, 10_000)
    assert not shared_state.is_hung(0, 10_000)
    first, express = shared_state.rows_of(0)
    shared_state.began_ns[[first, express]], shared_state.limit_ns[[first, express]] = 100, (5000, 50)
    assert [shared_state.is_hung(0, now) for now in (150, 151)] == [False, True]
    assert not shared_state.is_hung(1, 10_000)
