"""A second version gets copies under load: answers stay those of the first, until the second is promoted."""

import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.artifacts import LABELS, expected_probabilities, make_artifact
from tests.faults.ledger import DEFAULT_ALONE, PICTURES, Question, load
from tests.service.pictures import pixels, png
from tests.service.served import DEADLINE_S, Served, Servers, until
from tests.service.test_api_keys import line

FEWER = LABELS[:7]  # and so other weights
KEY = "the-key-of-an-operator"
BAD = 7  # value of a picture's first pixel for which version 2 fails
SHADOWED = ("--shadow", "model/2", "--shadow-share", "1", "--workers", "1", "--max-batch-size", "4")
BAD_FOR_SECOND = [Question("/predict", png(seed, BAD), pixels(seed, BAD)) for seed in range(PICTURES)]


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    make_artifact(tmp_path / "repository", "model", 1)
    return tmp_path / "repository"


@pytest.fixture
def serve(repository: Path) -> Iterator[Servers]:
    servers = Servers("--model-repository", repository, "--api-processes", "1", *SHADOWED)
    yield servers
    servers.close()


def promote(served: Served, path: str) -> httpx.Response:
    return httpx.post(f"{served.url}/models/model/versions/{path}", headers={"X-API-Key": KEY}, timeout=DEADLINE_S)


def images(served: Served, outcome: str) -> float:
    """How many images the shadow got that came to this."""
    return served.metrics()[f'resnet_shadow_images_total{{model="model",outcome="{outcome}",version="2"}}']


def compared(served: Served) -> float:
    return images(served, "agreed") + images(served, "differed")


def sampled(served: Served) -> float:
    return compared(served) + images(served, "dropped")


def versions(served: Served, **headers: str) -> dict[str, dict[str, Any]]:
    documents = httpx.get(served.url + "/models", headers=headers, timeout=DEADLINE_S).json()["models"]
    return {document["version"]: document for document in documents}


def agreeing() -> int:
    """For how many pictures both versions find the same class, by arithmetic."""
    tops = [
        [int(np.argmax(expected_probabilities(question.pixels, classes))) for classes in (len(LABELS), len(FEWER))]
        for question in DEFAULT_ALONE
    ]
    return sum(first == second for first, second in tops)


def test_answers_are_those_of_the_first_until_the_second_is_promoted(serve: Servers, repository: Path) -> None:
    make_artifact(repository, "model", 2, labels=FEWER)
    keys = line("operator", "predict,admin", KEY).strip()
    served = serve("--admin-api", RESNET_SERVE_API_KEYS=keys).ready()
    assert versions(served, **{"X-API-Key": KEY})["2"]["shadow"]
    with httpx.Client(headers={"X-API-Key": KEY}, timeout=DEADLINE_S) as client:
        for number, question in enumerate(DEFAULT_ALONE, 1):
            while compared(served) < number:  # a machine that is busy with other things has no time for a copy
                before = sampled(served)
                assert client.post(served.url + "/predict", content=question.body).json()["version"] == "1"
                until(lambda n=before + 1: sampled(served) == n, "its copy")
        assert images(served, "agreed") == agreeing() < PICTURES
        named = client.post(served.url + "/models/model/versions/2/predict", content=png()).json()
        assert named["version"] == "2"
    with load(served, connections=4, questions=DEFAULT_ALONE, labels={"2": FEWER}, key=KEY) as ledger:
        ledger.wait_for(50)
        assert served.metrics()['resnet_requests_total{model="model",outcome="ok",version="2"}'] == 1
        refused = promote(served, "1/promote")
        assert refused.status_code == 409
        assert "it is model/2" in refused.json()["detail"]
        make_artifact(repository, "model", 3)  # of which nobody has told the server
        assert promote(served, "2/promote").json() == {
            "changed": True,
            "models": [{"name": "model", "version": "2"}],
        }
        ledger.wait_for(50)
    assert set(ledger.summary()) == {(200, "")}
    again = promote(served, "2/promote")
    assert again.status_code == 409
    assert "there is none" in again.json()["detail"]
    assert served.stop() == 0, served.log


def test_a_shadow_that_agrees_is_promoted_and_taken_back_once_it_fails(serve: Servers, repository: Path) -> None:
    make_artifact(repository, "model", 2, fails=[BAD])
    served = serve("--promote-after", "10").ready()
    with load(served, connections=4, questions=DEFAULT_ALONE) as ledger:
        served.wait_for_event("models changed")
        ledger.wait_for(50)
    assert set(ledger.summary()) == {(200, "")}
    assert served.events("shadow is promoted", model="model", version=2)
    assert versions(served).keys() == {"2"}
    with load(served, connections=2, questions=[*DEFAULT_ALONE, *BAD_FOR_SECOND]) as ledger:
        served.wait_for_event("promoted version is taken back", instead=1)
        until(lambda: versions(served).keys() == {"1"}, "the change back")
        before = ledger.count(500)
        ledger.wait_for(50)
        assert ledger.count(500) <= before + 2  # those that were under way
    assert versions(served).keys() == {"1"}
    make_artifact(repository, "model", 3)
    served.signal(signal.SIGHUP)
    until(lambda: versions(served).keys() == {"3"}, "a newer version")
    assert served.stop() == 0, served.log


def test_a_shadow_is_promoted_where_the_worker_is_never_idle(serve: Servers, repository: Path) -> None:
    """One copy or more in four hundred images is made and run in any case; no answer is another's, late or refused."""
    loops = dict.fromkeys(range(256), 2)  # a batch takes about two milliseconds, and eight clients ask
    shutil.rmtree(repository / "model")
    for version in (1, 2):
        make_artifact(repository, "model", version, loops=loops)
    served = serve("--promote-after", "5").ready()
    with load(served, connections=8, questions=DEFAULT_ALONE) as ledger:
        served.wait_for_event("models changed")
        ledger.wait_for(20)
    assert set(ledger.summary()) == {(200, "")}
    assert served.events("shadow is promoted", model="model", version=2)
    assert images(served, "dropped") > 0
    assert served.stop() == 0, served.log


def test_a_shadow_that_fails_is_taken_back_and_no_answer_was_touched(serve: Servers, repository: Path) -> None:
    make_artifact(repository, "model", 2, fails=[BAD])
    served = serve().ready()
    with load(served, connections=2, questions=BAD_FOR_SECOND) as ledger:
        served.wait_for_event("shadow is taken back", model="model", version=2)
        served.wait_for_event("models changed", unloaded=["model/2"])
        ledger.wait_for(50)
    assert set(ledger.summary()) == {(200, "")}
    assert images(served, "agreed") == images(served, "differed") == 0
    assert versions(served).keys() == {"1"}
    assert served.stop() == 0, served.log
