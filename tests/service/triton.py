"""A real Triton server that answers as the model `plain` of `tests.service.stock` does: an oracle of its protocol."""

import json
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

from tests.artifacts import LABELS, SHAPE, weight
from tests.service.served import DEADLINE_S, free_port, until
from tests.service.stock import MAX_IMAGES

PACKAGE = Path(os.environ.get("RESNET_TEST_TRITON", Path(__file__).parents[2] / ".triton"))
CONFIGURATION = """
name: "plain"
backend: "python"
max_batch_size: %d
input [{ name: "image" data_type: TYPE_UINT8 dims: %s }]
output [{ name: "logits" data_type: TYPE_FP32 dims: [%d] label_filename: "labels.txt" }]
"""
MODEL = """
import pathlib, sys
sys.path.insert(0, %r)
import numpy
import triton_python_backend_utils as triton

weight = numpy.load(pathlib.Path(__file__).with_name("weight.npy"))

class TritonPythonModel:
    def execute(self, requests):
        return [triton.InferenceResponse([triton.Tensor("logits", self.logits(request))]) for request in requests]

    def logits(self, request):
        images = triton.get_input_tensor_by_name(request, "image").as_numpy()
        return (images.reshape(len(images), -1) / 255).astype(numpy.float32) @ weight
"""


def write_repository(folder: Path) -> None:
    """The model for Triton."""
    model = folder / "plain"
    (model / "2").mkdir(parents=True)
    (model / "config.pbtxt").write_text(CONFIGURATION % (MAX_IMAGES, json.dumps(SHAPE), len(LABELS)))
    (model / "labels.txt").write_text("\n".join(LABELS))
    (model / "2" / "model.py").write_text(MODEL % str(PACKAGE))
    np.save(model / "2" / "weight.npy", weight())


@contextmanager
def triton_server(folder: Path, *flags: str) -> Iterator[str]:
    """Its URL; skips the test where it cannot run."""
    server = PACKAGE / "pytriton" / "tritonserver"
    stub = server / "python_backend_stubs" / "{}.{}".format(*sys.version_info) / "triton_python_backend_stub"
    if not stub.exists():
        pytest.skip(f"no Triton server at {PACKAGE}: `make triton` gets it")
    write_repository(folder / "models")
    backends = folder / "backends"
    shutil.copytree(server / "backends", backends)
    program = folder / "tritonserver"
    for source, target in ((stub, backends / "python" / stub.name), (server / "bin" / "tritonserver", program)):
        shutil.copyfile(source, target)
        target.chmod(0o755)  # pip leaves them without
    port = free_port()
    command = [program, "--model-repository", folder / "models", "--backend-directory", backends]
    command += [
        "--http-port",
        str(port),
        "--http-address",
        "127.0.0.1",
        "--allow-grpc=false",
        "--allow-metrics=false",
        *flags,
    ]
    libraries = [str(PACKAGE / "nvidia_pytriton.libs"), f"{sys.base_prefix}/lib"]  # the second: libpython of a build
    with (folder / "log").open("wb") as log:
        environment = os.environ | {"LD_LIBRARY_PATH": ":".join(libraries)}
        process = subprocess.Popen(list(map(str, command)), env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        until(lambda: process.poll() is not None or is_ready(url), "Triton")
        if process.poll() is not None:
            pytest.skip(f"Triton does not run here:\n{(folder / 'log').read_text(errors='replace')}")
        yield url
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def is_ready(url: str) -> bool:
    """Whether it answers, and has its model."""
    try:
        return httpx.get(f"{url}/v2/health/ready", timeout=DEADLINE_S).status_code == 200
    except httpx.TransportError:
        return False
