"""Engines as a server's options: the answers are the same, and what cannot be had is an error at start."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch
import torchvision

from models.artifact.artifact import Artifact, read_artifact
from models.engines.backend import Backend
from models.engines.engine import EngineError
from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing
from models.machine.devices import gpus
from models.networks import registry
from models.networks.pixel_net import PixelNet
from models.postprocess import softmax
from tests.networks import random_pictures
from tests.service.pictures import encode
from tests.service.served import DEADLINE_S, Served, Servers, environment
from training.release.onnx_export import to_onnx
from training.release.release import assemble, describe, release

no_gpu = pytest.mark.skipif(gpus() > 0, reason="there is a GPU")


@pytest.fixture(scope="module")
def torch_server(networks: Path) -> Iterator[Served]:
    flags = ("--engine", "torch", "--device", "cpu", "--workers", "1", "--default-model", "mnist-residual-bn")
    with Served("--model-repository", networks, *flags) as served:
        yield served.ready()
        assert served.stop() == 0, served.log


@pytest.mark.parametrize("network", ["digit_network", "colour_network"])
def test_pytorch_answers_as_onnx_runtime_does(
    torch_server: Served, network: str, request: pytest.FixtureRequest
) -> None:
    artifact: Artifact = request.getfixturevalue(network)
    images = random_pictures(artifact, 5)
    expected = softmax(load_engine(artifact).run(images))
    url = f"{torch_server.url}/models/{artifact.name}/predict"
    files = [("image", encode(image)) for image in images]
    answer = httpx.post(url, files=files, params={"top_k": artifact.classes}, timeout=DEADLINE_S).json()
    for result, probabilities in zip(answer["results"], expected, strict=True):
        found = {one["index"]: one["probability"] for one in result["predictions"]}
        np.testing.assert_allclose([found[i] for i in range(artifact.classes)], probabilities, rtol=0, atol=1e-4)


def test_a_model_tells_which_engine_runs_it(torch_server: Served) -> None:
    model = httpx.get(f"{torch_server.url}/models/resnet20", timeout=DEADLINE_S).json()
    assert (model["state"], model["engine"], model["device"], model["precision"]) == ("ready", "torch", "cpu", "fp32")


def test_the_log_says_why_auto_takes_onnx_runtime(server: Served) -> None:
    assert "needs no torch" in server.wait_for_event("engine chosen", engine="onnxruntime")["why"]


def test_a_network_of_another_family_is_served_by_its_graph_alone(tmp_path: Path) -> None:
    """No name that the registry knows and no weights beside the graph: nothing of the server asks for either."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.mobilenet_v3_small(num_classes=4).eval()
    spec = Preprocessing.usual((64, 64, 3), 64, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25))
    labels = ("ant", "bee", "cat", "dog")
    metadata = describe(
        architecture="mobilenet_v3_small", arguments={}, labels=labels, preprocessing=spec, metrics={}, recipe={}
    )
    draft = assemble("mobile", 1, to_onnx(PixelNet(network, spec), spec.shape), metadata)
    artifact = read_artifact(release(draft, tmp_path, None))
    assert artifact.metadata.architecture not in registry.names()
    (image,) = random_pictures(artifact, 1)
    with torch.inference_mode():
        expected = network((torch.from_numpy(image).permute(2, 0, 1)[None] / 255 - 0.5) / 0.25).softmax(1)[0]
    with Served("--model-repository", tmp_path, "--workers", "1") as served:
        url = f"{served.ready().url}/predict"
        answer = httpx.post(url, content=encode(image), params={"top_k": 4}, timeout=DEADLINE_S).json()
        found = {one["label"]: one["probability"] for one in answer["predictions"]}
        np.testing.assert_allclose([found[label] for label in labels], expected, rtol=0, atol=1e-4)
        assert served.stop() == 0, served.log
    with pytest.raises(EngineError, match=r"no model\.safetensors, .*run it with --engine onnxruntime"):
        load_engine(artifact, Backend("torch"))


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ("--compile", "--compile is for --engine torch"),
        ("--device cpu --engine tensorrt", "engine tensorrt does not run on device cpu"),
        ("--device cpu --engine torch --precision fp16", "choose fp32 or bf16"),
        pytest.param("--device cuda", "nvidia-smi lists no GPU; use --device cpu", marks=no_gpu),
    ],
)
def test_options_without_meaning_end_the_start_before_there_are_workers(
    serve: Servers, networks: Path, flags: str, why: str
) -> None:
    served = serve("--model-repository", networks, "--default-model", "resnet20", *flags.split())
    assert why in served.refusal()
    assert not served.events("worker started")


@no_gpu
@pytest.mark.parametrize(
    ("engine", "why"), [("onnxruntime", "install resnet-serve[gpu] instead of [cpu]"), ("torch", "finds 0 GPUs")]
)
def test_a_gpu_that_the_engine_cannot_use_is_an_error(
    serve: Servers, networks: Path, tmp_path: Path, engine: str, why: str
) -> None:
    """As in a container that is given the driver's tools, and an engine without CUDA."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: GPU-1234)'\n")
    program.chmod(0o755)
    flags = ("--default-model", "mnist-residual-bn", "--engine", engine)
    served = serve("--model-repository", networks, *flags, PATH=f"{tmp_path}:{os.environ['PATH']}")
    log = served.refusal()
    assert why in log
    assert "--device cpu" in log


def test_a_default_model_without_weights_is_an_error_with_pytorch(serve: Servers, repository: Path) -> None:
    flags = ("--default-model", "plain", "--engine", "torch", "--device", "cpu", "--workers", "1")
    log = serve("--model-repository", repository, *flags).refusal()
    assert "plain/2 has no model.safetensors, which the torch engine runs" in log


def test_check_takes_the_same_options(networks: Path) -> None:
    command = [sys.executable, "-m", "service", "check", str(networks), "--device", "cpu"]
    command += ["--engine", "torch", "--precision", "bf16", "--max-batch-size", "4"]
    result = subprocess.run(command, env=environment(COLUMNS="120"), capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("ready") == 2
    assert "failed" not in result.stdout
