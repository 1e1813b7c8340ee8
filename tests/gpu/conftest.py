"""Everything here needs an NVIDIA GPU: `make test-gpu`."""

from collections.abc import Callable
from pathlib import Path

import onnxruntime as ort
import pytest

from models.machine.devices import gpus

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark all tests of this folder, and skip them where there is no GPU."""
    reason = "" if gpus() else "no NVIDIA GPU: nvidia-smi lists none"
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.gpu)
            if reason:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def provider() -> Callable[[str], None]:
    """Skip the test where this ONNX Runtime has no such execution provider."""

    def need(name: str) -> None:
        if name not in ort.get_available_providers():
            pytest.skip(f"this ONNX Runtime has no {name}: install resnet-serve[gpu] instead of [cpu]")

    return need
