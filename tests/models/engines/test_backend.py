"""Which ways there are to run a model, by the options, the device and what the model has."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artifact.artifact import Artifact, read_artifact
from models.engines.backend import Backend, candidates, candidates_for
from models.engines.engine import EngineError
from tests.artifacts import In8Bits, make_artifact
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("engine", "device", "wanted", "ways"),
    [
        ("auto", "cpu", "auto", ["onnxruntime fp32"]),
        ("auto", "cuda:1", "auto", ["onnxruntime tf32", "onnxruntime tf32, CUDA graphs"]),
        ("auto", "cpu", "fastest", ["onnxruntime fp32", "onnxruntime int8"]),
        ("auto", "cpu", "int8", ["onnxruntime int8"]),
        ("onnxruntime", "cuda", "fp32", ["onnxruntime fp32"]),
        ("tensorrt", "cuda:0", "fp16", ["tensorrt fp16"]),
        ("torch", "cpu", "auto", ["torch fp32"]),
        ("torch", "cpu", "bf16", ["torch bf16"]),
        ("torch", "cuda:0", "fp16", ["torch fp16"]),
        ("torch", "cuda:0", "fastest", ["torch tf32", "torch fp16", "torch bf16"]),
    ],
)
def test_the_ways_follow_engine_device_and_precision(engine: str, device: str, wanted: str, ways: list[str]):
    assert [*map(str, candidates(engine, device, wanted))] == ways


def test_the_fastest_on_a_gpu_may_be_of_any_engine_that_is_installed_and_nothing_is_more_exact_than_the_first():
    ways = candidates("auto", "cuda", "fastest", compiled=True)
    assert ways[0] == candidates("auto", "cuda")[0]
    assert {way.engine for way in ways} >= {"onnxruntime", "torch"}  # which these tests need
    assert Backend("torch", "bf16", compiled=True) in ways
    assert {way.precision for way in ways} == {"tf32", "fp16", "bf16"}


def test_compiled_is_beside_what_is_not_only_where_the_fastest_is_looked_for():
    assert candidates("torch", "cpu", "fp32", compiled=True) == (Backend("torch", compiled=True),)
    assert [way.compiled for way in candidates("torch", "cpu", "fastest", compiled=True)] == [False, False, True, True]


@pytest.mark.parametrize(
    ("engine", "device", "precision", "compiled", "complaint"),
    [
        ("tensorflow", "cpu", "auto", False, "unknown engine 'tensorflow'; choose auto, onnxruntime, tensorrt, torch"),
        ("tensorrt", "cpu", "auto", False, "engine tensorrt does not run on device cpu, only on cuda"),
        ("torch", "tpu", "auto", False, "does not run on device tpu, only on cpu or cuda"),
        ("auto", "cpu", "auto", True, "--compile is for --engine torch"),
        ("auto", "cpu", "fastest", True, "--compile is for --engine torch"),
        ("auto", "cpu", "bf16", False, "engine onnxruntime on cpu does not compute in bf16; choose fp32 or int8"),
        ("auto", "cuda", "int8", False, "engine onnxruntime on cuda does not compute in int8; choose tf32 or fp16"),
        ("torch", "cpu", "fp16", False, "engine torch on cpu does not compute in fp16; choose fp32 or bf16"),
        ("torch", "cpu", "tf32", True, "does not compute in tf32"),
        ("tensorrt", "cuda", "fp32", False, "does not compute in fp32; choose tf32 or fp16 or bf16"),
    ],
)
def test_a_choice_without_meaning_is_refused(engine: str, device: str, precision: str, compiled: bool, complaint: str):
    with pytest.raises(EngineError, match=complaint):
        candidates(engine, device, precision, compiled)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return read_artifact(make_artifact(tmp_path_factory.mktemp("plain"), "plain"))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return read_artifact(make_artifact(tmp_path_factory.mktemp("both"), "both", int8=In8Bits()))


def test_a_model_has_the_ways_for_which_its_files_are_there(plain: Artifact, both: Artifact):
    assert candidates_for(plain, "auto", "cpu", "fastest") == (Backend(),)
    assert candidates_for(both, "auto", "cpu", "fastest") == (Backend(), Backend(precision="int8"))
    assert candidates_for(both, "auto", "cpu") == (Backend(),)
    assert candidates_for(both, "auto", "cpu", "int8") == (Backend(precision="int8"),)
    assert {way.engine for way in candidates_for(plain, "auto", "cuda", "fastest")} == {"onnxruntime"}  # no weights


def test_a_model_that_is_not_there_in_8_bits_says_how_to_make_it(plain: Artifact):
    with pytest.raises(EngineError, match=r"plain/1 has no model\.int8\.onnx; .*quantize --beside"):
        candidates_for(plain, "auto", "cpu", "int8")


def in_8_bits(artifact: Artifact) -> Artifact:
    return replace(artifact, metadata=replace(artifact.metadata, precision="int8"))


@pytest.mark.parametrize("wanted", ["auto", "fastest", "int8"])
def test_a_graph_in_8_bits_is_computed_as_it_is(plain: Artifact, wanted: str):
    assert candidates_for(in_8_bits(plain), "auto", "cpu", wanted) == (Backend(precision="int8"),)


@pytest.mark.parametrize(
    ("engine", "device", "wanted", "complaint"),
    [
        ("auto", "cpu", "fp32", "plain is a graph in int8; run it with --engine onnxruntime"),
        ("torch", "cpu", "auto", "plain is a graph in int8; run it with --engine onnxruntime"),
        ("auto", "cuda", "auto", "has no convolutions on a GPU, .* slower than in fp32; .* or choose --device cpu"),
        ("tensorrt", "cuda", "auto", "TensorRT takes none with zero points"),
    ],
)
def test_a_graph_in_8_bits_is_refused_where_it_cannot_be_computed_so(
    plain: Artifact, engine: str, device: str, wanted: str, complaint: str
):
    with pytest.raises(EngineError, match=complaint):
        candidates_for(in_8_bits(plain), engine, device, wanted)


def test_no_engine_is_imported_before_it_is_chosen():
    code = """
import sys
import models.engines.backend, models.engines.selection, models.engines.golden, models.artifact.artifact
import service.cli, service.commands.serve, service.commands.check, service.config.settings
models.engines.backend.candidates("torch", "cuda", "bf16", True)
print(sorted({"torch", "safetensors", "onnxruntime"} & sys.modules.keys()))
import models.engines.onnx_engine
print("torch" in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split("\n")[:2] == ["[]", "False"]


def test_without_torch_its_engine_is_refused_with_the_remedy(tmp_path: Path):
    for package in Path(np.__file__).parent.parent.iterdir():
        if package.name != "torch":
            (tmp_path / package.name).symlink_to(package)
    code = "from models.engines.backend import candidates as f\nf('auto', 'cpu')\nf('torch', 'cpu')"
    path = os.pathsep.join(map(str, (ROOT, tmp_path)))
    command = [sys.executable, "-S", "-c", code]
    result = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert "EngineError: engine torch needs torch and safetensors: pip install" in result.stderr
    assert "line 3" in result.stderr


@pytest.mark.parametrize(
    ("way", "device", "builds"),
    [
        (Backend("torch", "fp16", compiled=True), "cuda:1", True),
        (Backend("tensorrt", "fp16"), "cuda", True),
        (Backend("torch", "fp16"), "cuda", False),
        (Backend("onnxruntime", "fp16", cuda_graphs=True), "cuda", False),
        (Backend("torch", "fp32", compiled=True), "cpu", False),
    ],
    ids=str,
)
def test_where_a_new_batch_size_takes_long(way: Backend, device: str, builds: bool):
    assert way.builds_each_size(device) is builds
