"""What the arithmetic of training runs on."""

import torch

from models.networks.tf32 import allow_tf32
from training.errors import RecipeError
from training.options import DeviceChoice


def choose_device(choice: DeviceChoice, number: int) -> torch.device:
    """Return the CPU, or the GPU of that number, which `auto` takes if there is one; RecipeError without it."""
    available = torch.cuda.is_available()
    if choice == "cuda" and not available:
        raise RecipeError("PyTorch finds no GPU here: leave out --device cuda, or see what `nvidia-smi` says")
    if choice == "cpu" or not available:
        return torch.device("cpu")
    if number >= torch.cuda.device_count():
        raise RecipeError(f"there are {torch.cuda.device_count()} GPUs: start no more processes than that")
    device = torch.device("cuda", number)
    torch.cuda.set_device(device)
    allow_tf32(False)  # what is called fp32 is fp32
    return device


def has_bf16(device: torch.device) -> bool:
    """Whether the device has instructions for bf16, so that it saves time."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))
