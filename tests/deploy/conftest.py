"""A server with traffic of every kind, and a Prometheus with the rules of `deploy` that scrapes it."""

import shutil
from collections.abc import Callable, Iterator

import httpx
import pytest

from service.catalog.repository import ZOO, ZOO_DEFAULT
from service.policy import DRIFT_WINDOW
from tests.documents import ROOT
from tests.prometheus import Prometheus, scraping
from tests.service.real_digits import ask_about, some_digits
from tests.service.served import DEADLINE_S, Served, until

RULES = [ROOT / "deploy" / "prometheus" / name for name in ("recording.yml", "alerts.yml")]
DIGIT = (ROOT / "docs" / "seven.png").read_bytes()


@pytest.fixture(scope="package")
def busy_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The zoo and a shadow, with a refusal among its counts, and so many answers that drift is known."""
    models = tmp_path_factory.mktemp("models")
    shutil.copytree(ZOO, models, dirs_exist_ok=True)
    shutil.copytree(models / ZOO_DEFAULT / "1", models / ZOO_DEFAULT / "2")
    shadow = ("--shadow", f"{ZOO_DEFAULT}/2", "--shadow-share", "1")
    with Served("--workers", "1", "--model-repository", models, "--default-model", ZOO_DEFAULT, *shadow) as served:
        ask(served.ready())
        with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
            ask_about(client, [pixels for _, pixels in some_digits(2 * DRIFT_WINDOW)])
        until(lambda: served.metrics()["resnet_saturation_ratio"] < 0.5, "the digits to be no load any more")
        yield served


def ask(served: Served) -> None:
    """Two answers and a refusal."""
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
        for model in ("mnist-residual", "mnist-inception"):
            assert client.post(f"/models/{model}/predict", content=DIGIT).status_code == 200
        assert client.post("/predict", content=b"text").status_code == 415


@pytest.fixture(scope="package")
def prometheus(
    require: Callable[[str], str], busy_server: Served, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Prometheus]:
    """With the rules, and data; it scrapes for as long as tests of this folder run, and no longer."""
    with scraping(require("prometheus"), busy_server, tmp_path_factory.mktemp("prometheus"), RULES) as prometheus:
        yield prometheus
