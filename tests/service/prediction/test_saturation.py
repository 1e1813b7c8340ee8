"""Saturation: averages that do not depend on when one looks, and a real server that is idle, full and idle again."""

import math
import threading

import httpx
import numpy as np
import pytest

from service.metrics.metrics import RESOURCES
from service.policy import BEAT_INTERVAL_S, SATURATION_S
from service.prediction.saturation import Saturation
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, until


class Played:
    """A saturation whose clock and use are set by the test."""

    def __init__(self) -> None:
        self.now_s, self.use = 0.0, 0.0
        self._saturation = Saturation({"workers": lambda: self.use, "places": lambda: 0.25}, lambda: self.now_s)

    def look_for(self, seconds: float, use: float, every_s: float = 0.25) -> float:
        """Look that often while so much is in use; the average at the end."""
        self.use = use
        for _ in range(round(seconds / every_s)):
            self.now_s += every_s
            self._saturation.look()
        return self._saturation.shares["workers"]


def test_an_average_fades_by_time_not_by_looks() -> None:
    for every_s in (0.05, 0.25, 5.0):
        played = Played()
        assert played.look_for(SATURATION_S, 1.0, every_s) == pytest.approx(1 - 1 / math.e)
        assert played.look_for(20 * SATURATION_S, 1.0, every_s) == pytest.approx(1.0)
        assert played.look_for(2 * SATURATION_S, 0.0, every_s) == pytest.approx(1 / math.e**2)


def test_a_scrape_is_no_coin_toss() -> None:
    """Of a worker that is busy in half of all looks, the average lies by the half: SATURATION_S holds thirty looks."""
    played, random = Played(), np.random.default_rng(0)
    played.look_for(100, 0.5, BEAT_INTERVAL_S)
    found = [played.look_for(BEAT_INTERVAL_S, float(random.random() < 0.5), BEAT_INTERVAL_S) for _ in range(20_000)]
    # The deviation of such an average is that of one look, a half, times sqrt(step / (2 * time)).
    assert np.std(found) == pytest.approx(0.5 * math.sqrt(BEAT_INTERVAL_S / (2 * SATURATION_S)), rel=0.2)


def test_the_use_of_one_resource_is_between_nothing_and_all_of_it() -> None:
    played = Played()
    assert played.look_for(1000, 7.0) == pytest.approx(1.0)
    assert played.look_for(1000, -1.0) == pytest.approx(0.0, abs=1e-9)


def shares(served: Served) -> dict[str, float]:
    found = served.metrics()
    return {name: found[f'resnet_capacity_used_ratio{{resource="{name}"}}'] for name in RESOURCES} | {
        "saturation": found["resnet_saturation_ratio"]
    }


def test_a_server_that_refuses_is_saturated_and_one_that_is_idle_is_not(serve: Servers) -> None:
    served = serve("--workers", "1", "--queue-capacity", "4", "--max-images-per-request", "4").ready()
    with served.paused():
        threads = [threading.Thread(target=ask, args=(served,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        found = until(lambda: shares(served)["places"] > 0.05 and shares(served), "places in use")
        assert found["saturation"] == max(found[name] for name in RESOURCES)
        assert ask(served) == 503
        refused = until(lambda: shares(served)["refusals"] > 0 and shares(served), "the refusal")
        assert refused["saturation"] >= refused["places"] > 0.05
    for thread in threads:
        thread.join()
    peak = shares(served)
    until(lambda: shares(served)["places"] < peak["places"] / 1.2, "the peak to fade")


def ask(served: Served) -> int:
    return httpx.post(f"{served.url}/predict", content=png(), timeout=DEADLINE_S).status_code
