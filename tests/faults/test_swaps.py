"""Models change under load: no request fails, every answer is one of the version that it names, and nothing is left."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.policy import FIRST_STARTS
from tests.artifacts import LABELS, make_artifact, make_slow_starter
from tests.faults.ledger import DEFAULT_ALONE, load
from tests.service.served import Served, Servers, memory_files, stopped, until

SWAPS = int(os.environ.get("RESNET_TEST_SWAPS", "4"))
LABELS_OF = {"1": LABELS, "2": LABELS[:7]}  # and so other weights
SLACK_BYTES = 8 << 20
PAUSE_S = 10.0


class Versions:
    """A repository of one model, in which version 2 comes and goes; a slow one of it takes seconds to start."""

    def __init__(self, folder: Path) -> None:
        self.repository, self._aside, self._slow = (folder / name for name in ("repository", "aside", "slow"))
        make_artifact(self.repository, "model", 1)
        make_artifact(self._aside, "model", 2, labels=LABELS_OF["2"])
        make_slow_starter(self._slow, "model", 2, LABELS_OF["2"])

    def swap(self) -> None:
        """Bring version 2, or take it away."""
        places = [folder / "model" / "2" for folder in (self._aside, self.repository)]
        source, target = places if places[0].exists() else reversed(places)
        source.rename(target)

    def bring_slow(self) -> None:
        """Bring the slow version 2."""
        (self._slow / "model" / "2").rename(self.repository / "model" / "2")


@pytest.fixture
def versions(tmp_path: Path) -> Versions:
    return Versions(tmp_path)


@pytest.fixture
def serve(versions: Versions) -> Iterator[Servers]:
    servers = Servers("--model-repository", versions.repository, "--max-batch-size", "4", "--api-processes", "1")
    yield servers
    servers.close()


def swap(served: Served, versions: Versions) -> None:
    """Have the other version served, and wait for the end of the workers of the one before."""
    done = len(served.events("models changed"))
    versions.swap()
    served.signal(signal.SIGHUP)
    workers = len(served.workers())
    until(lambda: len(served.events("models changed")) > done, "the change")
    until(lambda: len(served.events("worker ended")) == workers * (done + 1), "the end of the old workers")


def descriptors(served: Served) -> list[int]:
    """How many each process has."""
    pids = [served.process.pid, *served.api_processes(), *served.workers()]
    return [len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids]


def memory(served: Served) -> list[int]:
    """Bytes of the first process, and of the API process."""
    pids = [served.process.pid, *served.api_processes()]
    return [int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") for pid in pids]


def test_models_are_swapped_under_load_without_a_failed_or_wrong_request(serve: Servers, versions: Versions) -> None:
    served = serve("--workers", "1").ready()
    with load(served, connections=4, questions=DEFAULT_ALONE, labels=LABELS_OF) as ledger:
        for _ in range(2):
            swap(served, versions)
        held, before, processes = descriptors(served), memory(served), len(served.processes())
        for _ in range(SWAPS - SWAPS % 2):
            ledger.wait_for(20)
            swap(served, versions)
        after = memory(served)
        assert descriptors(served) == held
    first, api, worker = map(memory_files, (served.process.pid, *served.api_processes(), *served.workers()))
    assert api == worker == first - 1  # no one but the supervisor keeps the models' files
    assert set(ledger.summary()) == {(200, "")}
    assert len(served.processes()) == processes
    grown = [now - then for now, then in zip(after, before, strict=True)]
    assert max(grown) < SLACK_BYTES, f"grown by {grown} bytes"
    samples = served.metrics()
    assert samples['resnet_model_swaps_total{outcome="done"}'] == 2 + SWAPS - SWAPS % 2
    assert samples['resnet_model_swaps_total{outcome="refused"}'] == 0
    counted = [samples[f'resnet_requests_total{{model="model",outcome="ok",version="{v}"}}'] for v in LABELS_OF]
    assert min(counted) > 0
    assert sum(counted) == ledger.count(200)
    assert served.stop() == 0, served.log


def test_workers_that_die_during_a_swap_are_replaced_and_no_request_is_lost(serve: Servers, versions: Versions) -> None:
    """One that serves, and one that is to serve."""
    served = serve("--workers", "2").ready()
    with load(served, connections=4, questions=DEFAULT_ALONE, labels=LABELS_OF) as ledger:
        old = served.workers()
        versions.bring_slow()
        served.signal(signal.SIGHUP)
        until(lambda: len(served.events("worker started")) == 4, "the new workers")
        new = served.workers()
        for pid in (old[1], new[1]):
            os.kill(pid, signal.SIGKILL)
        served.wait_for_event("models changed")
        until(lambda: len(served.events("worker ended")) == 2, "the end of the old workers")
        ledger.wait_for(50)
    assert set(ledger.summary()) == {(200, "")}
    assert len(served.events("worker died")) == 2
    assert served.stop() == 0, served.log


def test_a_server_that_stood_still_during_a_swap_goes_on_with_it(serve: Servers, versions: Versions) -> None:
    """As with its container, paused for longer than models may take to load."""
    served = serve("--workers", "1", "--start-timeout", str(PAUSE_S)).ready()
    versions.swap()
    served.signal(signal.SIGHUP)
    until(lambda: len(served.events("worker started")) == 2, "the new worker")
    with stopped(*served.processes()):
        time.sleep(PAUSE_S + 1)
    until(lambda: served.events("models changed") or served.events("change refused"), "the end of the change")
    assert not served.events("change refused"), served.log
    assert not served.events("worker hangs"), served.log
    assert served.stop() == 0, served.log


def test_a_stop_during_a_swap_ends_all_and_loses_no_request(serve: Servers, versions: Versions) -> None:
    served = serve("--workers", "1").ready()
    with load(served, connections=4, questions=DEFAULT_ALONE, labels=LABELS_OF) as ledger:
        versions.bring_slow()
        served.signal(signal.SIGHUP)
        until(lambda: len(served.events("worker started")) == 2, "the new worker")
        assert served.stop() == 0, served.log
    assert set(ledger.summary()) <= {(200, ""), (0, "refused")}
    assert not served.events("models changed")


def test_an_api_process_that_dies_during_a_swap_has_a_successor_that_serves_the_new_version(
    serve: Servers, versions: Versions
) -> None:
    served = serve("--workers", "1").ready()
    with load(served, connections=4, questions=DEFAULT_ALONE, labels=LABELS_OF) as ledger:
        versions.swap()
        served.signal(signal.SIGHUP)
        until(lambda: len(served.events("worker started")) == 2, "the new worker")
        os.kill(served.api_processes()[0], signal.SIGKILL)
        served.wait_for_event("models changed")
        served.wait_for_event("worker ended")
        swap(served, versions)
        ledger.wait_for(50)
    assert set(ledger.summary()) <= {(200, ""), (0, "cut"), (503, "unavailable")}  # until the successor is ready
    assert served.metrics()['resnet_requests_total{model="model",outcome="ok",version="2"}'] > 0
    assert served.stop() == 0, served.log


def test_a_change_whose_worker_dies_again_and_again_is_refused(serve: Servers, versions: Versions) -> None:
    served = serve("--workers", "1").ready()
    with load(served, connections=2, questions=DEFAULT_ALONE, labels=LABELS_OF) as ledger:
        versions.bring_slow()
        served.signal(signal.SIGHUP)
        for n in range(FIRST_STARTS):
            until(lambda n=n: len(served.events("worker started")) == n + 2, "another new worker")
            os.kill(served.worker(), signal.SIGKILL)
        assert "ended with exit code -9" in served.wait_for_event("change refused")["reason"]
        ledger.wait_for(20)
    assert set(ledger.summary()) == {(200, "")}
    assert not [series for series in served.metrics() if 'version="2"' in series]
    assert served.stop() == 0, served.log
