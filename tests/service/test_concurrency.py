"""Requests that meet in a batch: each is answered as if it had come alone."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest

from tests.service.pictures import check, pixels, png
from tests.service.served import Served, until
from tests.service.stock import FAILING, NOT_A_NUMBER

REQUESTS = 32


def together(
    server: Served, client: httpx.Client, path: str, bodies: list[bytes], waiting: int
) -> list[httpx.Response]:
    """Send all while the worker stands still, and let it go once `waiting` of them wait for it."""
    with ThreadPoolExecutor(len(bodies)) as pool:
        with server.paused():
            answers = [pool.submit(client.post, path, content=body) for body in bodies]
            until(lambda: server.metrics()["resnet_inflight_requests"] == waiting, f"{waiting} waiting requests")
        return [answer.result() for answer in answers]


def probabilities(answer: httpx.Response) -> dict[int, float]:
    return {one["index"]: one["probability"] for one in answer.json()["predictions"]}


def test_one_corrupt_image_among_31_good_ones_fails_alone(server: Served, client: httpx.Client) -> None:
    bodies = [png(seed) for seed in range(REQUESTS)]
    bodies[17] = bodies[17][:-40]
    before = server.metrics()
    answers = together(server, client, "/predict", bodies, waiting=31)
    after = server.metrics()
    assert [answer.status_code for answer in answers] == [422 if seed == 17 else 200 for seed in range(REQUESTS)]
    good = [(seed, answer) for seed, answer in enumerate(answers) if seed != 17]
    for seed, answer in good:
        check(answer.json(), pixels(seed))
    count, total = 'resnet_batch_size_count{model="plain"}', 'resnet_batch_size_sum{model="plain"}'
    batches = after[count] - before[count]
    assert after[total] - before[total] == 31
    assert batches <= 31 / 2, "no batches formed"
    assert sum(1 / answer.json()["batch_size"] for _, answer in good) == pytest.approx(batches)


def test_batched_answers_equal_lone_answers(server: Served, client: httpx.Client) -> None:
    bodies = [png(seed) for seed in range(100, 100 + REQUESTS)]
    lone = [client.post("/predict", params={"top_k": 10}, content=body) for body in bodies]
    batched = together(server, client, "/predict?top_k=10", bodies, waiting=REQUESTS)
    assert {answer.json()["batch_size"] for answer in lone} == {1}
    assert max(answer.json()["batch_size"] for answer in batched) > 1
    for one, other in zip(lone, batched, strict=True):
        assert one.json()["predictions"][0]["label"] == other.json()["predictions"][0]["label"]
        alone, among = probabilities(one), probabilities(other)
        np.testing.assert_allclose([among[index] for index in alone], list(alone.values()), atol=1e-6)


def test_an_image_that_the_engine_fails_for_fails_alone(server: Served, client: httpx.Client) -> None:
    bodies = [png(seed) for seed in range(12)]
    bodies[3], bodies[8] = png(first=FAILING), png(first=NOT_A_NUMBER)
    answers = together(server, client, "/models/faulty/predict", bodies, waiting=12)
    assert [answer.status_code for answer in answers] == [500 if seed in (3, 8) else 200 for seed in range(12)]
    for seed, answer in enumerate(answers):
        if answer.status_code == 200:
            check(answer.json(), pixels(seed))


def test_different_wishes_share_a_batch(server: Served, client: httpx.Client) -> None:
    with ThreadPoolExecutor(8) as pool:
        with server.paused():
            answers = [
                pool.submit(client.post, "/predict", params={"top_k": 1 + seed}, content=png(seed)) for seed in range(8)
            ]
            until(lambda: server.metrics()["resnet_inflight_requests"] == 8, "eight waiting requests")
        for seed, answer in enumerate(answers):
            check(answer.result().json(), pixels(seed), top_k=1 + seed)
