"""Many models in little memory: which are loaded, what waits for the others, and what goes wrong with them."""

import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.artifacts import LABELS, make_artifact, value_at_start
from tests.service.pictures import check, pixels, png
from tests.service.served import DEADLINE_S, Served, stopped, until

BALLAST = 8 << 20
ROUNDS = 10  # of two loads
SLACK_BYTES = BALLAST // 2
FLAGS = ("--default-model", "a", "--max-batch-size", "2", "--grace", "60")
SLOW_LOOPS = 750  # of about a millisecond, in each batch that warms the model


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that take the same, `a` the engine's library besides."""
    folder = tmp_path_factory.mktemp("many")
    for name in "abcd":
        make_artifact(folder, name, ballast_bytes=BALLAST)
    return folder


@contextmanager
def serving(repository: Path, budget: int, *flags: str) -> Iterator[Served]:
    with Served("--model-repository", repository, "--memory-budget", str(budget), *FLAGS, *flags) as served:
        yield served.ready()


def models(served: Served) -> dict[str, dict]:
    found = httpx.get(f"{served.url}/models", timeout=DEADLINE_S).json()["models"]
    return {document["name"]: document for document in found}


def states(served: Served) -> dict[str, str]:
    return {name: document["state"] for name, document in models(served).items()}


def loaded(served: Served) -> str:
    """Names of the loaded models."""
    return "".join(name for name, state in states(served).items() if state == "ready")


def ask(served: Served, name: str, timeout_ms: int = 60_000) -> httpx.Response:
    headers = {"x-request-timeout-ms": str(timeout_ms)}
    return httpx.post(f"{served.url}/models/{name}/predict", content=png(), headers=headers, timeout=DEADLINE_S)


def answer(served: Served, name: str) -> None:
    """A request to this model is answered as it must be."""
    response = ask(served, name)
    assert response.status_code == 200, response.text
    check(response.json(), pixels(), LABELS)


def wait_until_tried(served: Served, *names: str) -> None:
    """Wait until the start has loaded each of these models once."""
    for name in names:
        until(lambda name=name: models(served)[name].get("memory_bytes") or states(served)[name] == "failed", name)


@pytest.fixture(scope="module")
def sizes(repository: Path) -> dict[str, int]:
    """Bytes that each model takes in a worker."""
    with serving(repository, 1 << 40, "--workers", "1") as served:
        until(lambda: loaded(served) == "abcd", "all models, for which there is room")
        return {name: document["memory_bytes"] for name, document in models(served).items()}


def test_what_a_model_takes_is_its_weights_once(sizes: dict[str, int]) -> None:
    assert min(sizes.values()) >= BALLAST
    assert max(sizes[name] for name in "bcd") < 1.5 * BALLAST


@pytest.fixture(scope="module")
def two(repository: Path, sizes: dict[str, int]) -> Iterator[Served]:
    """A server with room for two models beside the default one."""
    budget = sizes["a"] + sizes["b"] * 5 // 2
    with serving(repository, budget, "--workers", "1", "--api-processes", "1") as served:
        wait_until_tried(served, *"abcd")
        until(lambda: served.events("model unloaded", model="d"), "the last model to be unloaded")
        yield served
        assert served.stop() == 0, served.log


def test_the_model_that_was_used_longest_ago_makes_room(two: Served) -> None:
    assert states(two) == {"a": "ready", "b": "ready", "c": "ready", "d": "unloaded"}
    index = {entry["name"]: entry for entry in httpx.post(f"{two.url}/v2/repository/index", timeout=DEADLINE_S).json()}
    assert (index["d"]["state"], index["d"]["reason"]) == (
        "UNAVAILABLE",
        "it is not loaded; the next request for it has it loaded",
    )
    assert two.status("/v2/models/d/ready") == two.status("/readyz") == 200
    for asked, there in (("c", "abc"), ("b", "abc"), ("d", "abd"), ("b", "abd"), ("c", "abc"), ("a", "abc")):
        answer(two, asked)
        assert loaded(two) == there
    samples = two.metrics()
    assert samples["resnet_memory_budget_used_bytes"] <= samples["resnet_memory_budget_bytes"]
    assert samples['resnet_model_state{model="d",state="unloaded",version="1"}'] == 1
    loads = {name: samples.get(f'resnet_model_loads_total{{model="{name}"}}', 0) for name in "abcd"}
    unloads = {name: samples.get(f'resnet_model_unloads_total{{model="{name}"}}', 0) for name in "abcd"}
    assert loads == {"a": 0, "b": 1, "c": 2, "d": 1}
    assert unloads == {"a": 0, "b": 0, "c": 1, "d": 1}


def test_a_worker_that_is_replaced_loads_what_was_loaded(two: Served) -> None:
    answer(two, "d")
    there, before = loaded(two), two.worker()
    os.kill(before, signal.SIGKILL)
    until(lambda: len(two.events("worker up")) == 2, "another worker")
    until(lambda: loaded(two) == there, "the same models")
    answer(two, "d")


def own_bytes(pid: int) -> int:
    """Memory of a process that it shares with no other."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return 1024 * sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def test_memory_is_given_back_however_often_models_come_and_go(two: Served) -> None:
    for name in "bcdbc":
        answer(two, name)
    before = own_bytes(two.worker())
    for _ in range(ROUNDS):
        for name in "dc":
            answer(two, "b")
            answer(two, name)
    assert loaded(two) == "abc"
    assert own_bytes(two.worker()) - before < SLACK_BYTES


def test_a_new_version_of_a_loaded_model_is_loaded_and_the_others_stay_as_they_are(
    two: Served, repository: Path
) -> None:
    answer(two, "b")
    answer(two, "c")
    make_artifact(repository, "b", 2, ballast_bytes=BALLAST)
    two.signal(signal.SIGHUP)
    two.wait_for_event("models changed")
    until(lambda: models(two)["b"]["version"] == "2", "the new version")
    assert loaded(two) == "abc"
    answer(two, "b")
    answer(two, "d")
    assert loaded(two) == "abd"


def test_however_many_ask_for_a_model_it_is_loaded_once_in_each_worker(repository: Path, sizes: dict[str, int]) -> None:
    budget = 2 * (sizes["a"] + sizes["b"] * 5 // 2)
    with serving(repository, budget, "--workers", "2", "--api-processes", "2") as served:
        wait_until_tried(served, *"abcd")
        until(lambda: served.events("model unloaded", model="d"), "the last model to be unloaded")
        before = len(served.events("model ready", model="d"))
        with ThreadPoolExecutor(20) as clients:
            for asked in [clients.submit(answer, served, "d") for _ in range(20)]:
                asked.result()
        until(lambda: served.events("model ready", model="d", worker=1), "the other worker to load it")
        assert len(served.events("model ready", model="d")) == before + 2
        assert served.stop() == 0, served.log


@pytest.fixture(scope="module")
def slow_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models of which one loads slowly, and one is broken."""
    folder = tmp_path_factory.mktemp("slow")
    repository = folder / "repository"
    for name in "ab":
        make_artifact(repository, name, ballast_bytes=BALLAST)
    make_artifact(repository, "broken", golden_error=1.0)
    loops = {value_at_start(folder): SLOW_LOOPS}
    make_artifact(repository, "slow", ballast_bytes=BALLAST, loops=loops)
    return repository


@pytest.fixture(scope="module")
def slow(slow_repository: Path, sizes: dict[str, int]) -> Iterator[Served]:
    """A server with room for one of these models beside the default one."""
    budget = sizes["a"] + sizes["b"] * 3 // 2
    with serving(slow_repository, budget, "--workers", "1", "--api-processes", "1") as served:
        wait_until_tried(served, "a", "b", "broken", "slow")
        until(lambda: served.events("model unloaded", model="slow"), "the last model to be unloaded")
        yield served


def test_a_broken_model_is_refused_with_the_reason_and_not_loaded_for_each_request(slow: Served) -> None:
    for _ in range(3):
        response = ask(slow, "broken")
        assert response.status_code == 503
        problem = response.json()
        assert problem["reason"] == "loading"
        assert problem["detail"].startswith("the model failed to load: ")
        assert "golden" in problem["detail"]
        assert 0 < int(response.headers["retry-after"]) <= 30
    assert len(slow.events("model failed", model="broken")) == 1
    assert states(slow)["broken"] == "failed"


def test_a_request_whose_deadline_is_before_the_end_of_the_load_expires_and_the_model_is_loaded(slow: Served) -> None:
    assert ask(slow, "slow", timeout_ms=50).status_code == 504
    until(lambda: states(slow)["slow"] == "ready", "the model, which nobody waits for")
    assert states(slow)["b"] == "unloaded"
    answer(slow, "slow")
    answer(slow, "b")
    assert slow.metrics()["resnet_queue_depth"] == 0


@contextmanager
def waiting_for_slow(served: Served) -> Iterator[Future[httpx.Response]]:
    """A request for the slow model, which the worker is loading."""
    answer(served, "b")
    with ThreadPoolExecutor(1) as client:
        response = client.submit(ask, served, "slow")
        await_load(served)
        yield response


def await_load(served: Served) -> None:
    until(lambda: served.metrics()["resnet_workers_busy"] == 1 and states(served)["b"] == "unloaded", "the load")


def test_what_waits_for_a_load_is_answered_though_another_model_changes(slow: Served, slow_repository: Path) -> None:
    with waiting_for_slow(slow) as response:
        make_artifact(slow_repository, "b", 2, ballast_bytes=BALLAST)
        slow.signal(signal.SIGHUP)
        assert slow.wait_for_event("models changed")["loaded"] == ["b/2"]
        assert response.result().status_code == 200, response.result().text
    answer(slow, "b")
    assert slow.metrics()["resnet_queue_depth"] == 0


def test_a_worker_that_is_killed_while_it_loads_is_replaced_and_the_load_begins_anew(slow: Served) -> None:
    with waiting_for_slow(slow) as response:
        os.kill(slow.worker(), signal.SIGKILL)
        assert response.result().status_code == 200, response.result().text


def test_a_model_with_which_two_workers_die_is_refused(slow: Served) -> None:
    with waiting_for_slow(slow) as response:
        ups = len(slow.events("worker up"))
        os.kill(slow.worker(), signal.SIGKILL)
        until(lambda: len(slow.events("worker up")) == ups + 1, "another worker")
        await_load(slow)
        os.kill(slow.worker(), signal.SIGKILL)
        until(lambda: len(slow.events("worker up")) == ups + 2, "a third one")
        assert response.result().status_code == 503
        assert response.result().json()["detail"] == "the model failed to load: 2 workers that loaded it died"
    answer(slow, "a")


def test_while_a_worker_loads_the_other_one_answers_also_for_an_api_process_that_is_new(
    slow_repository: Path, sizes: dict[str, int]
) -> None:
    budget = 2 * (sizes["a"] + sizes["b"] * 3 // 2)
    with (
        serving(slow_repository, budget, "--workers", "2", "--api-processes", "1") as served,
        ThreadPoolExecutor(1) as client,
    ):
        wait_until_tried(served, "a", "b", "broken", "slow")
        until(lambda: served.events("model unloaded", model="slow"), "the last model to be unloaded")
        cut = client.submit(ask, served, "slow")
        await_load(served)
        with stopped(served.worker(0)):  # which now loads for as long as the test wants
            answer(served, "a")
            (victim,) = served.api_processes()
            os.kill(victim, signal.SIGKILL)
            until(lambda: victim not in served.api_processes(), "its end")
            assert isinstance(cut.exception(), httpx.TransportError)
            until(lambda: served.api_processes() and served.status("/readyz") == 200, "its successor")
            answer(served, "a")
        answer(served, "slow")
        assert served.stop() == 0, served.log


def test_what_waits_for_a_model_when_the_server_stops_is_answered(repository: Path, sizes: dict[str, int]) -> None:
    with serving(repository, sizes["a"] + sizes["b"] * 3 // 2, "--workers", "1", "--api-processes", "1") as served:
        wait_until_tried(served, *"abcd")
        until(lambda: served.events("model unloaded", model="d"), "the last model to be unloaded")
        with ThreadPoolExecutor(1) as client, served.stopped_workers():
            response = client.submit(ask, served, "d")
            until(lambda: served.metrics()["resnet_queue_depth"] == 1, "the request")
            served.signal(signal.SIGTERM)
            served.wait_for_event("stopping")
        assert response.result().status_code == 200, response.result().text
        assert served.wait() == 0, served.log


def test_a_model_that_is_larger_than_the_budget_is_told_at_the_start_and_refused(
    repository: Path, sizes: dict[str, int]
) -> None:
    with serving(repository, sizes["a"] + sizes["b"] // 2, "--workers", "1", "--api-processes", "1") as served:
        told = served.wait_for_event("model does not fit", model="d")["reason"]
        response = ask(served, "d")
        assert response.status_code == 503
        assert response.json()["detail"] == told
        least = models(served)["a"]["memory_bytes"] + models(served)["d"]["memory_bytes"]
        assert told.endswith(f"start the server with at least --memory-budget {least}")
        answer(served, "a")
        assert loaded(served) == "a"
