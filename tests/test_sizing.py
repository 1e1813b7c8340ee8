"""The rule of docs/operations.md for memory, held against what servers take."""

import re
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from tests.documents import ROOT
from tests.networks import release_network
from tests.service.served import DEADLINE_S, Served

MIB = 1 << 20
DIGIT = (ROOT / "docs" / "seven.png").read_bytes()
PICTURE = 224 * 224  # pixels


def rule() -> tuple[int, ...]:
    """MiB of the first process, of an API process, of a worker; times the models' files; for a picture."""
    (text,) = re.findall(
        r"<!-- sizing -->(.*?)<!-- end of sizing -->", (ROOT / "docs" / "operations.md").read_text(), re.S
    )
    (found,) = re.findall(
        r"\| the first process \| (\d+) \| M \|\n"
        r"\| each API process \| (\d+) \|.*\n"
        r"\| each worker \| (\d+) \| (\d+) M, and (\d+) for each picture of 224 x 224 pixels",
        text,
    )
    return tuple(map(int, found))


def needed(repository: Path, models: list[Mapping], workers: int) -> float:
    """MiB by the rule, with one API process and without bodies and decoding."""
    first, api, worker, times, picture = rule()
    files = sum(path.stat().st_size for path in repository.rglob("model.onnx")) / MIB
    batches = [model["max_batch_size"] * model["input"]["height"] * model["input"]["width"] for model in models]
    return first + files + api + workers * (worker + times * files + picture * max(batches) / PICTURE)


def taken(served: Served) -> float:
    """MiB of memory that nothing but these processes uses, what they share counted once (proc(5), smaps_rollup)."""
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text() for pid in served.processes()]
    parts = [re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB", text, re.MULTILINE) for text in texts]
    return sum(int(kib) for each in parts for kib in each) / 1024


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """ResNet-18, untrained."""
    repository = tmp_path_factory.mktemp("photos")
    release_network(repository, "resnet18", 10)
    return repository


@pytest.mark.parametrize("workers", [1, 2])
def test_models_of_digits_take_no_more(workers: int) -> None:
    check(ROOT / "models" / "zoo", workers, "--default-model", "mnist-residual")


def test_a_network_for_photographs_takes_no_more(photos: Path) -> None:
    check(photos, 1, "--max-batch-size", "8")


def check(repository: Path, workers: int, *flags: str) -> None:
    """After some requests it takes no more than the rule says, and no less than half of it."""
    flags = ("--model-repository", str(repository), "--workers", str(workers), "--api-processes", "1", *flags)
    with Served(*flags) as served, httpx.Client(base_url=served.ready().url, timeout=DEADLINE_S) as client:
        for _ in range(100):
            assert client.post("/predict", content=DIGIT).status_code == 200
        most = needed(repository, client.get("/models").json()["models"], workers)
        assert most / 2 < taken(served) <= most
