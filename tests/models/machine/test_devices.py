"""What the machine gives: asked in processes that really have less of it, and of a program that lists GPUs."""

import os
from pathlib import Path

import pytest

from models.machine.devices import DeviceError, choose_device, gpus, too_old_driver

LISTED = (
    "GPU 0: NVIDIA H200 (UUID: GPU-1)",
    "GPU 1: NVIDIA H200 (UUID: GPU-3)",
)


@pytest.fixture
def listing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose `nvidia-smi -L` lists two GPUs."""
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in LISTED))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return program


@pytest.mark.usefixtures("listing")
@pytest.mark.parametrize(
    ("visible", "count"),
    [
        (None, 2),
        ("0", 1),
        ("1,0", 2),
        ("", 0),
        ("-1", 0),
        ("0,-1,1", 1),
        ("0,1,2", 2),
        ("2", 0),
        ("NoDevFiles", 0),
        ("GPU-3,GPU-1", 2),
    ],
)
def test_gpus_may_be_hidden(visible: str | None, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == count


@pytest.mark.parametrize(("visible", "count"), [(None, 1), ("MIG-2", 1), ("MIG-2,MIG-4", 1), ("1", 1), ("", 0)])
def test_of_gpus_in_parts_one_is_used(
    listing: Path, visible: str | None, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with listing.open("a") as program:
        program.write("echo '  MIG 1g.18gb     Device  0: (UUID: MIG-2)'\n")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpus() == count


@pytest.mark.usefixtures("listing")
def test_gpus_are_taken_where_there_are_some_unless_the_cpu_is_wanted() -> None:
    assert choose_device("auto") == choose_device("cuda") == ("cuda", 2)
    assert choose_device("cpu") == ("cpu", 1)


def test_without_gpus_only_their_wish_is_an_error(listing: Path) -> None:
    listing.write_text("#!/bin/sh\necho 'NVIDIA-SMI has failed'\nexit 9\n")
    assert gpus() == 0
    assert choose_device("auto") == ("cpu", 1)
    with pytest.raises(DeviceError, match="--device cpu"):
        choose_device("cuda")


@pytest.mark.parametrize(
    ("driver", "cuda", "complaint"),
    [
        ("580.65.06", "13.0", ""),
        ("575.57.08", "13.0", "NVIDIA's driver 575.57.08 is too old for CUDA 13.0, which needs 580 or newer"),
        ("535.104.05", "12.8", ""),
        ("470.1", "12.8", "NVIDIA's driver 470.1 is too old for CUDA 12.8, which needs 525 or newer"),
        ("470.1", "", ""),  # made without CUDA
        ("NVIDIA-SMI has failed", "13.0", ""),
    ],
)
def test_a_driver_must_be_as_new_as_what_was_made_for_it(listing: Path, driver: str, cuda: str, complaint: str) -> None:
    listing.write_text(f'#!/bin/sh\necho "{driver}"\n')
    assert too_old_driver(cuda) == complaint
