import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from models.engines.engine import EngineError
from models.engines.loader import resolve_precision
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("engine", "device", "wanted", "meant"),
    [
        ("auto", "cpu", "auto", "fp32"),
        ("auto", "cuda:1", "auto", "tf32"),
        ("onnxruntime", "cuda", "fp32", "fp32"),
        ("tensorrt", "cuda:0", "fp16", "fp16"),
        ("torch", "cpu", "auto", "fp32"),
        ("torch", "cpu", "bf16", "bf16"),
        ("torch", "cuda:0", "fp16", "fp16"),
    ],
)
def test_the_precision_follows_engine_and_device(engine: str, device: str, wanted: str, meant: str):
    assert resolve_precision(engine, device, wanted) == meant


@pytest.mark.parametrize(
    ("engine", "device", "precision", "compiled", "complaint"),
    [
        ("tensorflow", "cpu", "auto", False, "unknown engine 'tensorflow'; choose auto, onnxruntime, tensorrt, torch"),
        ("tensorrt", "cpu", "auto", False, "engine tensorrt does not run on device cpu, only on cuda"),
        ("torch", "tpu", "auto", False, "does not run on device tpu, only on cpu or cuda"),
        ("auto", "cpu", "auto", True, "--compile is for --engine torch"),
        ("auto", "cpu", "bf16", False, "engine onnxruntime on cpu does not compute in bf16; choose fp32"),
        ("torch", "cpu", "fp16", False, "engine torch on cpu does not compute in fp16; choose fp32 or bf16"),
        ("torch", "cpu", "tf32", True, "does not compute in tf32"),
        ("tensorrt", "cuda", "fp32", False, "does not compute in fp32; choose tf32 or fp16 or bf16"),
    ],
)
def test_a_choice_without_meaning_is_refused(engine: str, device: str, precision: str, compiled: bool, complaint: str):
    with pytest.raises(EngineError, match=complaint):
        resolve_precision(engine, device, precision, compiled)


def test_no_engine_is_imported_before_it_is_chosen():
    code = """
import sys
import models.engines.loader, models.engines.golden, models.artifact.artifact
import service.cli, service.commands.serve, service.commands.check, service.settings
models.engines.loader.resolve_precision("torch", "cuda", "bf16", True)
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
    code = "from models.engines.loader import resolve_precision as f\nf('auto', 'cpu')\nf('torch', 'cpu')"
    path = os.pathsep.join(map(str, (ROOT, tmp_path)))
    command = [sys.executable, "-S", "-c", code]
    result = subprocess.run(command, env={"PYTHONPATH": path}, capture_output=True, text=True, check=False)
    assert "EngineError: engine torch needs torch and safetensors: pip install" in result.stderr
    assert "line 3" in result.stderr
