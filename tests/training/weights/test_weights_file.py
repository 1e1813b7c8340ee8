"""Files of weights: what is read, and what is refused before any of its code could run."""

import hashlib
import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from training.errors import WeightsError
from training.weights.weights_file import read_weights

WEIGHTS = {"fc.weight": torch.arange(6.0).view(2, 3), "fc.bias": torch.ones(2)}


class Trap:
    """Unpickling this makes a directory."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class MethodCall:
    """Unpickling this calls a method of an object."""

    def __reduce__(self):
        return "text".upper, ()


def zipped_json() -> bytes:
    with zipfile.ZipFile(stream := BytesIO(), "w") as archive:
        archive.writestr("model.json", "{}")
    return stream.getvalue()


@pytest.mark.parametrize("old_format", [False, True])
def test_pytorch_files_are_read(old_format: bool, tmp_path: Path):
    path = tmp_path / "net.th"
    torch.save({"state_dict": WEIGHTS, "epoch": 3}, path, _use_new_zipfile_serialization=not old_format)
    file = read_weights(path)
    assert isinstance(file.content, dict)
    assert file.content["epoch"] == 3
    assert torch.equal(file.content["state_dict"]["fc.weight"], WEIGHTS["fc.weight"])
    assert file.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()


def test_safetensors_files_are_read(tmp_path: Path):
    path = tmp_path / "net.safetensors"
    safetensors.torch.save_file(WEIGHTS, path)
    content = read_weights(path).content
    assert isinstance(content, dict)
    assert content.keys() == WEIGHTS.keys()
    assert torch.equal(content["fc.weight"], WEIGHTS["fc.weight"])


@pytest.mark.parametrize("name", ["model.safetensors", "pytorch_model.bin"])
def test_a_folder_is_its_file_of_weights(name: str, tmp_path: Path):
    with pytest.raises(WeightsError, match=r"a folder without model\.safetensors or pytorch_model\.bin"):
        read_weights(tmp_path)
    save = safetensors.torch.save_file if name.endswith("safetensors") else torch.save
    save(WEIGHTS, tmp_path / name)
    assert read_weights(tmp_path).path == tmp_path / name


@pytest.mark.parametrize("old_format", [False, True])
def test_no_code_of_a_file_is_run(old_format: bool, tmp_path: Path):
    made = tmp_path / "made by the file"
    torch.save(
        WEIGHTS | {"trap": Trap(made)}, path := tmp_path / "net.pth", _use_new_zipfile_serialization=not old_format
    )
    with pytest.raises(WeightsError, match=r"net\.pth holds posix\.mkdir, .* run code"):
        read_weights(path)
    assert not made.exists()
    torch.load(path, weights_only=False)  # the trap is a working one
    assert made.exists()


def test_what_is_not_read_at_all_says_how_to_save_weights(tmp_path: Path):
    torch.save(WEIGHTS, path := tmp_path / "net.pth", pickle_protocol=4)
    with pytest.raises(WeightsError, match=r"without pickle_protocol, or as safetensors"):
        read_weights(path)
    torch.save(WEIGHTS | {"method": MethodCall()}, path)
    with pytest.raises(WeightsError, match=r"cannot be read without running code; save the weights alone"):
        read_weights(path)
    torch.save(nn.Linear(2, 2), path, _use_new_zipfile_serialization=False)
    with pytest.raises(WeightsError, match=r"a whole network as old PyTorch pickles it, .*state_dict"):
        read_weights(path)
    with pytest.warns(FutureWarning, match="deprecated"):
        torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(path)
    with pytest.raises(WeightsError, match=r"is a TorchScript archive, .*state_dict"):
        read_weights(path)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize(
    "data", [b"", b"\x89HDF\r\n\x1a\n", b"PK\3\4", b"hello", pickle.dumps([1]), b"\xff" * 64, b"\x80\x02abc"]
)
def test_other_files_are_refused(name: str, data: bytes, tmp_path: Path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(WeightsError, match=f"{name} "):
        read_weights(tmp_path / name)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5, as Keras saves it.* tf2onnx"),
        (b"\x1c\0\0\0TFL3" + bytes(99), "TensorFlow Lite.* tf2onnx"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "a pointer of Git LFS"),
        (b"<!DOCTYPE html><title>Sign in</title>", "HTML"),
        (b'{"weight_map": {}}', "JSON"),
        (pickle.dumps({"fc.weight": np.ones(3)}), "pickled, but not as PyTorch does"),
        (zipped_json(), "a ZIP archive without a state dict"),
        (zipped_json().replace(b"PK\1\2", b"PK\1\0"), "another kind of file, or damaged"),
        (safetensors.torch.save(WEIGHTS)[:-9], "another kind of file, or damaged"),
    ],
)
def test_other_files_are_called_what_they_are_whatever_their_name(data: bytes, told: str, tmp_path: Path):
    for name in ("net.pth", "net.safetensors"):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(WeightsError, match=told):
            read_weights(tmp_path / name)


def test_files_are_read_by_what_they_hold_and_not_by_their_name(tmp_path: Path):
    torch.save(WEIGHTS, tmp_path / "net.safetensors")
    safetensors.torch.save_file(WEIGHTS, tmp_path / "net.pth")
    for name in ("net.safetensors", "net.pth"):
        assert read_weights(tmp_path / name).content.keys() == WEIGHTS.keys()


def test_a_damaged_file_is_refused(tmp_path: Path):
    torch.save(WEIGHTS, path := tmp_path / "net.pth")
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(WeightsError, match=r"net\.pth is another kind of file, or damaged"):
        read_weights(path)


def test_a_file_with_damaged_weights_is_refused(tmp_path: Path):
    weights = {"fc.weight": torch.full((50, 50), 0.3)}
    torch.save(weights, path := tmp_path / "net.pth")
    path.write_bytes(path.read_bytes().replace(weights["fc.weight"].numpy().tobytes(), bytes(10_000)))
    with pytest.raises(WeightsError, match=r"net\.pth is damaged: net/data/0 in it is not what was saved"):
        read_weights(path)


def test_a_file_that_was_saved_without_checksums_is_read(tmp_path: Path):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(WEIGHTS, tmp_path / "net.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert read_weights(tmp_path / "net.pth").content.keys() == WEIGHTS.keys()


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(WeightsError, match=r"net\.pth cannot be read: No such file"):
        read_weights(tmp_path / "net.pth")


@pytest.mark.parametrize("name", ["resnet18-20240115.pth", "epoch-00000012.ckpt", "net-20240115123000.pth"])
def test_a_date_or_a_step_in_the_name_is_no_digest(name: str, tmp_path: Path):
    torch.save(WEIGHTS, tmp_path / name)
    assert read_weights(tmp_path / name).content.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("length", [8, 10, 64])
def test_a_digest_in_the_name_is_held_to(length: int, tmp_path: Path):
    torch.save(WEIGHTS, source := tmp_path / "net.pth")
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    honest = source.rename(tmp_path / f"net-{digest[:length]}.pth")
    assert read_weights(honest).sha256 == digest
    other = f"{(int(digest[0], 16) + 1) % 16:x}{digest[1:length]}"
    with pytest.raises(WeightsError, match=f"has SHA-256 {digest}, its name says {other}"):
        read_weights(honest.rename(tmp_path / f"net-{other}.pth"))
