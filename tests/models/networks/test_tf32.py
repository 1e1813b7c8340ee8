"""TF32 by PyTorch's own words, old and new."""

from collections.abc import Iterator

import pytest
import torch

from models.networks.tf32 import allow_tf32


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    convolutions, products = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = convolutions, products


@pytest.mark.parametrize("allowed", [True, False])
def test_it_is_allowed_or_forbidden_in_convolutions_and_products(allowed: bool):
    allow_tf32(allowed)
    assert torch.backends.cudnn.allow_tf32 == torch.backends.cuda.matmul.allow_tf32 == allowed
    assert (torch.backends.cudnn.conv.fp32_precision == "tf32") == allowed
    assert torch.get_float32_matmul_precision() == ("high" if allowed else "highest")
