"""The zoo as it ships: real digits through HTTP."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import httpx
import numpy as np
import pytest

from models.artifact.artifact import read_artifact
from service.catalog.repository import ZOO
from service.metrics.metrics import DRIFTS
from service.policy import DRIFT_WINDOW
from tests.service.pictures import encode
from tests.service.real_digits import Digits, ask_about, some_digits
from tests.service.served import DEADLINE_S, Served, Servers, until

COUNT = 200
LEAST_RIGHT = 0.95


@pytest.fixture(scope="module")
def digits() -> Digits:
    return some_digits(COUNT)


@pytest.fixture(scope="module")
def zoo() -> Iterator[Served]:
    """`resnet-serve` without an option."""
    with Served() as served:
        yield served.ready()
        assert served.stop() == 0, served.log


@pytest.fixture(scope="module")
def zoo_client(zoo: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=zoo.url, timeout=DEADLINE_S) as client:
        yield client


def share_right(client: httpx.Client, path: str, digits: Digits, bodies: list[bytes]) -> float:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda body: client.post(path, content=body), bodies))
    assert {answer.status_code for answer in answers} == {200}
    tops = [answer.json()["predictions"][0]["label"] for answer in answers]
    return float(np.mean([top == label for top, (label, _) in zip(tops, digits, strict=True)]))


@pytest.mark.parametrize("path", ["/predict", "/models/mnist-residual/predict", "/predictions/mnist-inception"])
def test_real_digits_are_recognised(zoo_client: httpx.Client, digits: Digits, path: str) -> None:
    bodies = [encode(pixels) for _, pixels in digits]
    assert share_right(zoo_client, path, digits, bodies) >= LEAST_RIGHT


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_digits_drawn_dark_on_light_paper_are_recognised_too(
    zoo_client: httpx.Client, digits: Digits, kind: str
) -> None:
    bodies = [encode(255 - pixels.repeat(5, axis=0).repeat(5, axis=1), kind) for _, pixels in digits]
    assert share_right(zoo_client, "/predict", digits, bodies) >= LEAST_RIGHT


def test_the_residual_network_is_the_default(zoo_client: httpx.Client) -> None:
    models = zoo_client.get("/models").json()["models"]
    assert {"mnist-inception", "mnist-residual"} <= {model["name"] for model in models}
    assert [model["name"] for model in models if model["default"]] == ["mnist-residual"]
    for model in models:
        assert model["state"] == "ready"
        metadata = read_artifact(ZOO / model["name"] / model["version"]).metadata
        assert (model["labels"], model["metrics"]) == (list(metadata.labels), metadata.metrics)


def test_batched_answers_of_a_real_network_equal_lone_answers(serve: Servers, digits: Digits) -> None:
    """By a server that nobody has asked about another model: two in demand have smaller batches."""
    bodies = [encode(pixels) for _, pixels in digits[::6]]
    served = serve().ready()
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
        ask = partial(client.post, "/predict", params={"top_k": 10})
        lone = [ask(content=body).json() for body in bodies]
        workers = len(served.events("worker started"))
        with ThreadPoolExecutor(len(bodies)) as pool, served.paused():
            batched = [pool.submit(ask, content=body) for body in bodies]
            until(lambda: served.metrics()["resnet_inflight_requests"] == len(bodies), "all to wait")
    answers = [answer.result().json() for answer in batched]
    assert max(answer["batch_size"] for answer in answers) >= len(bodies) / (4 * workers)
    for one, other in zip(lone, answers, strict=True):
        alone, among = ({p["index"]: p["probability"] for p in answer["predictions"]} for answer in (one, other))
        assert one["predictions"][0]["label"] == other["predictions"][0]["label"]
        np.testing.assert_allclose([among[index] for index in alone], list(alone.values()), atol=1e-5)


def test_digits_are_no_drift_and_noise_is(zoo: Served, zoo_client: httpx.Client) -> None:
    def drifts() -> dict[str, float]:
        found, name = zoo.metrics(), "resnet_prediction_drift"
        return {of: found.get(f'{name}{{model="mnist-residual",of="{of}"}}', np.nan) for of in DRIFTS}

    size = DRIFT_WINDOW + DRIFT_WINDOW // 5  # the window slides by steps
    ask_about(zoo_client, [pixels for _, pixels in some_digits(size)])
    until(lambda: max(drifts().values()) < 0.1, "both measures, and little")
    noise = np.random.default_rng(0).integers(0, 256, (size, 28, 28), np.uint8)
    ask_about(zoo_client, list(noise))
    until(lambda: min(drifts().values()) > 0.25, "both measures to tell drift")
