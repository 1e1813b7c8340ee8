"""A real TorchServe that answers as the model `plain` of `tests.service.stock` does."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.artifacts import LABELS, weight
from tests.service.served import DEADLINE_S, environment, free_port, until

PACKAGE = Path(os.environ.get("RESNET_TEST_TORCHSERVE", Path(__file__).parents[2] / ".torchserve"))
HTTP = {8080: "inference_address", 8081: "management_address", 8082: "metrics_address"}
PORTS = HTTP | {7070: "grpc_inference_port", 7071: "grpc_management_port"}
HANDLER = """
import io
import numpy
from PIL import Image

class Handler:
    def initialize(self, context):
        self.weight = numpy.load(context.system_properties["model_dir"] + "/weight.npy")

    def handle(self, requests, context):
        return [self.answer(request.get("data") or request["body"]) for request in requests]

    def answer(self, image):
        pixels = numpy.asarray(Image.open(io.BytesIO(image)))
        exponentials = numpy.exp(pixels.reshape(-1) / 255 @ self.weight)
        return dict(zip(%r, (exponentials / exponentials.sum()).tolist()))
"""


def write_archive(folder: Path, name: str) -> None:
    """`models/<name>.mar`, version 2.0."""
    (folder / "models").mkdir()
    (folder / "handler.py").write_text(HANDLER % (LABELS,))
    np.save(folder / "weight.npy", weight())
    parts = ["--handler", "handler.py", "--extra-files", "weight.npy", "--export-path", "models"]
    archiver = PACKAGE / "bin" / "torch-model-archiver"
    command = [sys.executable, archiver, "--model-name", name, "--version", "2.0", *parts]
    subprocess.run(command, cwd=folder, env=environment(PYTHONPATH=str(PACKAGE)), check=True, capture_output=True)


def torchserve_environment(folder: Path) -> tuple[dict[str, str], dict[int, int]]:
    """What `torchserve` has to find in its environment, and its ports by those that it has otherwise."""
    ports = {usual: free_port() for usual in PORTS}
    lines = [f"{PORTS[usual]}={'http://127.0.0.1:' * (usual in HTTP)}{port}" for usual, port in ports.items()]
    lines += ["default_workers_per_model=1", "metrics_mode=prometheus"]
    (folder / "config.properties").write_text("\n".join(lines))
    return environment(
        PYTHONPATH=str(PACKAGE),
        PATH=os.pathsep.join([str(PACKAGE / "bin"), f"{sys.prefix}/bin", os.environ["PATH"]]),
        TS_CONFIG_FILE=str(folder / "config.properties"),
        LOG_LOCATION=str(folder / "logs"),
        METRICS_LOCATION=str(folder / "logs"),
        TMPDIR=str(folder),  # for the number of its process and what it unpacks
    ), ports


@contextmanager
def torchserve(folder: Path, start: str, name: str) -> Iterator[tuple[dict[str, str], dict[int, int]]]:
    """Start it by this command with an archive of this name; skips the test where it cannot run."""
    if not (PACKAGE / "ts").exists() or not shutil.which("java"):
        pytest.skip(f"no TorchServe at {PACKAGE}, or no Java: `make torchserve` gets the first")
    write_archive(folder, name)
    variables, ports = torchserve_environment(folder)
    with (folder / "log").open("wb") as log:  # which the server keeps open
        subprocess.run(start.split(), cwd=folder, env=variables, stdout=log, stderr=log, check=True, timeout=DEADLINE_S)
    try:
        until(lambda: is_ready(f"http://127.0.0.1:{ports[8081]}/models/{name}"), "TorchServe")
        yield variables, ports
    finally:
        subprocess.run(["torchserve", "--stop"], cwd=folder, env=variables, capture_output=True, timeout=DEADLINE_S)


def is_ready(url: str) -> bool:
    """Whether the model has a worker that runs."""
    try:
        (version,) = httpx.get(url, timeout=DEADLINE_S).json()
    except httpx.TransportError:
        return False
    return any(worker["status"] == "READY" for worker in version["workers"])
