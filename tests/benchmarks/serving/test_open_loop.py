import threading
from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.serving.open_loop import BROKEN, NOT_SENT, UNANSWERED, Arrivals, http_message, poisson_times, run
from tests.benchmarks.conftest import Handler, Respond

Start = Callable[[Respond], int]
MESSAGE = http_message("POST", "/", {"Content-Type": "text/plain"}, b"hello")
GRACE_S = 30.0  # never waited for where all is well


@pytest.fixture(autouse=True)
def _compiler(require: Callable[[str], str]) -> None:
    require("cc")


def times(n: int) -> np.ndarray:
    return np.arange(1, n + 1) * 0.002


def test_requests_leave_on_schedule_though_none_is_answered(http_server: Start):
    n, arrived, all_arrived = 40, [], threading.Event()

    def answer_when_all_are_there(handler: Handler, body: bytes) -> None:
        arrived.append(body)
        if len(arrived) == n:
            all_arrived.set()
        assert all_arrived.wait(GRACE_S)
        handler.answer(200)

    due = times(n)
    ledger = run(http_server(answer_when_all_are_there), Arrivals([MESSAGE], due, connections=n), (), GRACE_S).load
    assert ledger.status.tolist() == [200] * n
    assert arrived == [b"hello"] * n
    assert (ledger.sent >= due).all()
    # None can be answered before the last was due; each waited from its own moment until then.
    assert (ledger.latency >= due[-1] - due).all()


def test_statuses_and_broken_connections_are_told_apart(http_server: Start):
    def by_turns(handler: Handler, body: bytes) -> None:
        turn = int(body)
        if turn == 0:
            handler.answer(200)
        elif turn == 1:
            handler.answer(503, Retry_After="1")
        elif turn == 2:
            handler.answer(503)
        else:
            handler.close_connection = True

    port = http_server(by_turns)
    ledgers = [
        run(port, Arrivals([http_message("POST", "/", {}, str(turn).encode())], times(3), 3), (), GRACE_S).load
        for turn in range(4)
    ]
    assert [ledger.status.tolist() for ledger in ledgers] == [[200] * 3, [503] * 3, [503] * 3, [BROKEN] * 3]
    assert [ledger.retry_after.tolist() for ledger in ledgers] == [[False] * 3, [True] * 3, [False] * 3, [False] * 3]


@pytest.mark.parametrize(("is_kept", "clients"), [(True, 1), (False, 6)])
def test_a_connection_carries_one_request_after_the_other_or_one(http_server: Start, *, is_kept: bool, clients: int):
    seen: list[tuple[tuple[str, int], bytes]] = []

    def note(handler: Handler, body: bytes) -> None:
        seen.append((handler.client_address, body))
        handler.answer(200, body)

    messages = [http_message("POST", "/", {}, body) for body in (b"a", b"b", b"c")]
    load = Arrivals(messages, times(6), connections=1, is_kept=is_kept)
    ledger = run(http_server(note), load, (), GRACE_S).load
    assert ledger.status.tolist() == [200] * 6
    assert [body for _, body in seen] == [b"a", b"b", b"c"] * 2  # in turn
    assert len({address for address, _ in seen}) == clients


def test_a_request_waits_for_the_only_connection_from_the_moment_that_it_was_due(http_server: Start):
    port = http_server(lambda handler, _: handler.answer(200))
    due = np.zeros(50)
    ledger = run(port, Arrivals([MESSAGE], due, connections=1), (), GRACE_S).load
    assert ledger.status.tolist() == [200] * 50
    assert (ledger.sent[1:] >= ledger.done[:-1]).all()
    assert (np.diff(ledger.latency) > 0).all()


def test_what_the_server_closes_is_opened_again(http_server: Start):
    port = http_server(lambda handler, _: handler.answer(200, Connection="close"))
    ledger = run(port, Arrivals([MESSAGE], times(5), connections=1), (), GRACE_S).load
    assert ledger.status.tolist() == [200] * 5


def test_large_requests_and_responses_pass_whole(http_server: Start):
    sizes: list[int] = []

    def echo(handler: Handler, body: bytes) -> None:
        sizes.append(len(body))
        handler.answer(200, body)

    message = http_message("POST", "/", {}, bytes(5_000_000))
    ledger = run(http_server(echo), Arrivals([message], times(3), connections=1), (), GRACE_S).load
    assert ledger.status.tolist() == [200] * 3
    assert sizes == [5_000_000] * 3


def test_what_is_not_answered_in_time_stays_unanswered(http_server: Start):
    over = threading.Event()
    port = http_server(lambda handler, _: over.wait() and handler.answer(200))
    ledger = run(port, Arrivals([MESSAGE], times(3), 3), (), grace_s=0.2).load
    over.set()
    assert ledger.status.tolist() == [UNANSWERED] * 3
    assert np.isnan(ledger.done).all()


def test_a_schedule_that_cannot_be_kept_is_given_up(http_server: Start):
    port = http_server(lambda handler, _: handler.answer(200))
    ledger = run(port, Arrivals([MESSAGE], np.array([-10.0, -9.0, 0.001]), 3), (), GRACE_S).load
    assert ledger.status.tolist() == [NOT_SENT, NOT_SENT, 200]


def test_probes_are_asked_beside_the_load(http_server: Start):
    paths = []

    def note(handler: Handler, body: bytes) -> None:
        del body
        paths.append(handler.path)
        handler.answer(404 if handler.path == "/gone" else 200)

    outcome = run(http_server(note), Arrivals([MESSAGE], times(150), 8), ("/livez", "/gone"), GRACE_S)
    assert set(paths) == {"/", "/livez", "/gone"}
    assert set(outcome.probes["/livez"].status) == {200}
    assert set(outcome.probes["/gone"].status) == {404}
    assert len(outcome.load.status) == 150
    assert outcome.sender_cpu_s > 0


def test_arrivals_are_a_poisson_process():
    seconds, rate = 2000, 50.0
    due = poisson_times(rate, seconds, seed=1)
    assert (np.diff(due) > 0).all()
    counts = np.histogram(due, bins=seconds, range=(0, seconds))[0]
    # Its counts have the mean of the rate, and a variance equal to the mean: 5 standard errors either way.
    assert counts.mean() == pytest.approx(rate, abs=5 * (rate / seconds) ** 0.5)
    assert counts.var() / rate == pytest.approx(1.0, abs=5 * (2 / seconds) ** 0.5)


def test_another_seed_gives_other_arrivals():
    assert poisson_times(10, 10, seed=1).tolist() == poisson_times(10, 10, seed=1).tolist()
    assert poisson_times(10, 10, seed=1).tolist() != poisson_times(10, 10, seed=2).tolist()


def test_a_load_without_bounds_is_refused():
    with pytest.raises(ValueError, match="over 2000000 requests"):
        poisson_times(1e6, 3600, seed=0)
