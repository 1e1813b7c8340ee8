"""The PyTorch engine: an artifact's weights in the network that the registry builds."""

import contextlib
import threading
from collections.abc import Callable
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from models.artifact.artifact import Artifact
from models.engines.backend import Backend
from models.engines.engine import EngineError, checked
from models.engines.padding import pad
from models.machine.devices import too_old_driver
from models.networks.pixel_net import PixelNet
from models.networks.registry import ArchitectureError, MisfitError, build_with_weights
from models.networks.tf32 import allow_tf32

_COMPILED_SIZES = 16  # CUDA graphs that a network may have; batches of 1, 2, 4, ... 512 need ten
_HALVES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class TorchEngine:
    """Runs an artifact's `model.safetensors`, channels last.

    `threads` are those of this process on a CPU; batches on a GPU are padded, and have at most `max_batch` images.
    A CUDA error is no EngineError: it leaves a process without its GPU, which has to end and be replaced.
    """

    name = "torch"

    def __init__(self, artifact: Artifact, backend: Backend, *, device: str, threads: int, max_batch: int) -> None:
        torch.set_num_threads(threads)
        self.library = f"torch {torch.__version__}"
        self._device = _find_device(device)
        self.device, self.precision = str(self._device), str(backend.precision)
        self._classes = artifact.classes
        self._half = _HALVES.get(backend.precision)
        network = _make_network(artifact, self._device, self._half)
        self._network: Callable[[Tensor], Tensor] = _compile(network, self._device) if backend.compiled else network
        self._lock: contextlib.AbstractContextManager[object] = contextlib.nullcontext()
        # A copy, for PyTorch warns of read-only arrays and refuses reversed ones.
        self._upload: Callable[[NDArray[np.uint8]], Tensor] = lambda images: torch.from_numpy(images.copy())
        if self._device.type == "cuda":
            self._lock = threading.Lock()
            self._upload = HostMemory((max_batch, *artifact.input_shape), self._device).upload

    def run(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Logits [n, classes] of images [n, height, width, channels]; EngineError when it fails."""
        try:
            logits = self._infer(images)
        except torch.AcceleratorError:
            raise
        except Exception as error:  # the compiler's errors have no common base below Exception
            raise EngineError(f"PyTorch failed on a batch of {images.shape}: {error}") from error
        return checked(logits, len(images), self._classes)

    def _infer(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        half = torch.autocast(self._device.type, self._half, enabled=self._half is not None, cache_enabled=False)
        with self._lock, torch.inference_mode(), half:
            allow_tf32(self.precision == "tf32")  # in each run: it is one switch for all networks of the process
            logits: NDArray[np.float32] = self._network(self._upload(images)).float().cpu().numpy()
        return logits[: len(images)]


class HostMemory:
    """Memory for one batch at a time, [largest, h, w, c]; a GPU reads from it by itself, for it is page-locked."""

    def __init__(self, shape: tuple[int, ...], device: torch.device) -> None:
        self._device = device
        self._memory = torch.zeros(shape, dtype=torch.uint8, pin_memory=device.type == "cuda")
        self._array: NDArray[np.uint8] = self._memory.numpy()

    def upload(self, images: NDArray[np.uint8]) -> Tensor:
        """The images padded to 1, 2, 4, ... or the largest, on their way; the memory is in use until they are there."""
        size = len(pad(images, self._array))
        return self._memory[:size].to(self._device, non_blocking=True)


def _find_device(device: str) -> torch.device:
    """The device that was asked for, with its number."""
    if device == "cpu":
        return torch.device(device)
    number, found = int(device.partition(":")[2] or 0), torch.cuda.device_count()
    if number >= found:
        why = "does `nvidia-smi` work?" if torch.version.cuda else "it is built without CUDA;"
        if too_old := too_old_driver(torch.version.cuda or ""):
            why = f"{too_old};"
        raise EngineError(
            f"device {device} was asked for, and PyTorch {torch.__version__} finds {found} GPUs: {why} "
            "install what is missing, or choose --device cpu"
        )
    return torch.device("cuda", number)


def _make_network(artifact: Artifact, device: torch.device, half: torch.dtype | None) -> nn.Module:
    network = PixelNet(_load_network(artifact), artifact.metadata.preprocessing, torch.channels_last).eval()
    if half is not None:
        # What autocast would do in every run; it leaves batch norm in fp32.
        for module in network.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                module.to(half)
    return network.to(memory_format=torch.channels_last).to(device).requires_grad_(False)


def _load_network(artifact: Artifact) -> nn.Module:
    """The artifact's architecture with its weights, in fp32 on the CPU."""
    metadata, where = artifact.metadata, f"{artifact.name}/{artifact.version}"
    otherwise = "; run it with --engine onnxruntime, or release it again with `resnet-train`"
    if artifact.weights is None:
        raise EngineError(f"{where} has no model.safetensors, which the torch engine runs{otherwise}")
    if "classes" in metadata.arguments:
        raise EngineError(f"{where}: metadata gives the class count as an argument, beside its labels{otherwise}")
    try:
        weights = load(artifact.weights)
        return build_with_weights(metadata.architecture, weights, classes=artifact.classes, **metadata.arguments)
    except ArchitectureError as error:
        raise EngineError(f"{where}: {error}{otherwise}") from error
    except (SafetensorError, MisfitError) as error:
        raise EngineError(f"{where}: model.safetensors is damaged or of another network: {error}{otherwise}") from error


def _compile(network: nn.Module, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Compile at the first batches: on a CPU for one image and for more, on a GPU a CUDA graph for each size."""
    options: dict[str, Any] = {"mode": "reduce-overhead", "dynamic": False} if device.type == "cuda" else {}
    if "isolate_recompiles" in signature(torch.compile).parameters:
        options |= {"isolate_recompiles": True, "recompile_limit": _COMPILED_SIZES}
    else:  # before PyTorch 2.13 all networks of a process share the compilations that it allows one function
        torch._dynamo.config.recompile_limit = torch._dynamo.config.accumulated_recompile_limit
    compiled: Callable[[Tensor], Tensor] = torch.compile(network, **options)
    return compiled
