"""Which device is taken, and in which precision it saves time."""

import pytest
import torch

from training.errors import RecipeError
from training.loop.device import choose_device, has_bf16


def test_without_a_gpu_the_cpu_is_taken_and_cuda_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto", 0) == choose_device("cpu", 0) == torch.device("cpu")
    with pytest.raises(RecipeError, match="finds no GPU"):
        choose_device("cuda", 0)


def test_more_processes_than_gpus_are_refused_but_by_the_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    assert choose_device("auto", 0) == choose_device("cuda", 0) == torch.device("cuda", 0)
    assert choose_device("cpu", 1) == torch.device("cpu")
    with pytest.raises(RecipeError, match="there are 1 GPUs"):
        choose_device("auto", 1)


@pytest.mark.parametrize(
    ("capabilities", "expected"),
    [({}, False), ({"avx512_f": True}, False), ({"avx512_bf16": True}, True), ({"amx_bf16": True}, True)],
)
def test_bf16_is_taken_where_the_cpu_has_instructions_for_it(capabilities, expected, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert has_bf16(torch.device("cpu")) == expected


def test_fp32_on_a_gpu_is_fp32(monkeypatch):
    """Not tf32, which is cuDNN's default."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _: None)
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    try:
        choose_device("cuda", 0)
        assert (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32) == (False, False)
    finally:  # monkeypatch cannot: these are no attributes of a class
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before
