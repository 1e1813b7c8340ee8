"""What ONNX Runtime is told of a GPU; that it does what it is told only a GPU can show."""

import sys
from pathlib import Path

import pytest

from models.artifact.artifact import Artifact
from models.engines.backend import Backend
from models.engines.engine import EngineError
from models.engines.onnx_session import _engine_cache, gpu_providers, make_gpu_session
from models.machine.devices import gpus

SHAPE = (8, 28, 28, 1)


@pytest.mark.parametrize(
    ("backend", "tf32", "nhwc", "graph"),
    [
        (Backend("onnxruntime", "tf32"), "1", "0", "0"),
        (Backend("onnxruntime", "fp32"), "0", "0", "0"),
        (Backend("onnxruntime", "fp16", channels_last=True, cuda_graphs=True), "0", "1", "1"),
    ],
    ids=str,
)
def test_a_backend_is_a_provider_and_its_options(backend: Backend, tf32: str, nhwc: str, graph: str):
    ((name, options),) = gpu_providers(backend, "1", SHAPE, None)
    assert name == "CUDAExecutionProvider"
    assert options == {
        "device_id": "1",
        "use_tf32": tf32,
        "prefer_nhwc": nhwc,
        "enable_cuda_graph": graph,
        "cudnn_conv_algo_search": "HEURISTIC",
    }


def test_tensorrt_builds_once_for_every_size_and_keeps_what_it_built(tmp_path: Path):
    (name, options), (rest, _) = gpu_providers(Backend("tensorrt", "fp16"), "0", SHAPE, tmp_path)
    assert (name, rest) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
    profiles = {key: value for key, value in options.items() if "profile" in key}
    assert profiles == {
        "trt_profile_min_shapes": "image:1x28x28x1",
        "trt_profile_opt_shapes": "image:8x28x28x1",
        "trt_profile_max_shapes": "image:8x28x28x1",
    }
    flags = [options[f"trt_{name}_enable"] for name in ("fp16", "engine_cache", "timing_cache")]
    assert flags == ["True"] * 3  # "should be 'True' or 'False'" is all that ONNX Runtime says to "1"
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == str(tmp_path)


def test_without_a_place_for_it_tensorrt_keeps_nothing():
    ((_, options), _) = gpu_providers(Backend("tensorrt", "tf32"), "0", SHAPE, None)
    assert not [name for name in options if "cache" in name]
    assert "trt_fp16_enable" not in options


def test_what_was_built_of_other_weights_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """ONNX Runtime tells the engines in one folder apart by names alone."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, other = _engine_cache(b"a graph"), _engine_cache(b"with other weights")
    assert first
    assert other
    assert first.is_dir()
    assert first != other
    assert _engine_cache(b"a graph") == first


@pytest.mark.parametrize(
    ("cuda", "printed", "driver", "told"),
    [
        (
            "13.0",
            "Failed to load libcublas.so.13: no such file\n",
            "580.1",
            r"Failed to load libcublas\.so\.13: no such file; pip install 'resnet-serve\[gpu\]",
        ),
        ("13.0", "", "535.1", r"NVIDIA.s driver 535.1 is too old for CUDA 13.0, .* or install .*\[gpu-cuda12\]"),
        ("12.8", "", "470.1", "NVIDIA.s driver 470.1 is too old for CUDA 12.8, .*; update the driver$"),
        ("12.8", "", "535.1", r"does `nvidia-smi` work, .*resnet-serve\[gpu-cuda12\]"),
    ],
    ids=["libraries", "driver", "old-driver", "unknown"],
)
def test_why_a_provider_does_not_start_is_told_once_it_was_tried(
    digit_network: Artifact,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    cuda: str,
    printed: str,
    driver: str,
    told: str,
):
    """CUDA's packages for forward compatibility run on drivers that are called too old."""
    if gpus():
        pytest.skip("there is a GPU, on which the session starts")
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\necho {driver}\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("onnxruntime.cuda_version", cuda)
    monkeypatch.setattr("onnxruntime.preload_dlls", lambda: sys.stdout.write(printed))
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: ["CUDAExecutionProvider"])
    with pytest.raises(EngineError, match=rf"cannot load .* with CUDAExecutionProvider: .*; {told}"):
        make_gpu_session("digits", digit_network.model, 1, Backend("onnxruntime", "tf32"), "0", SHAPE)
    assert capfd.readouterr() == ("", "")  # the log has no lines but ours
