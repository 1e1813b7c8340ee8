import dataclasses
import hashlib
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from models.artifact.artifact import highest_version, read_artifact, read_metadata, vacant_directory, write_artifact
from models.artifact.metadata import ArtifactError, Metadata

LinearModel = Callable[[Metadata], onnx.ModelProto]


@pytest.fixture
def model(metadata: Metadata, linear_model: LinearModel) -> bytes:
    return linear_model(metadata).SerializeToString()


@pytest.fixture
def directory(tmp_path: Path, model: bytes) -> Path:
    """A released model that a test may damage."""
    return write_artifact(tmp_path / "repository", "animals", 3, model, b"weights")


def write_sums(directory: Path) -> None:
    """Make SHA256SUMS anew, with coreutils."""
    files = sorted(path.name for path in directory.iterdir() if path.name != "SHA256SUMS")
    sums = subprocess.run(["sha256sum", *files], cwd=directory, check=True, capture_output=True)
    (directory / "SHA256SUMS").write_bytes(sums.stdout)


def test_what_was_written_is_read(directory: Path, model: bytes, metadata: Metadata):
    artifact = read_artifact(directory)
    assert (artifact.name, artifact.version) == ("animals", 3)
    assert (artifact.model, artifact.weights) == (model, b"weights")
    assert artifact.sha256 == hashlib.sha256(model).hexdigest()
    assert artifact.metadata == metadata
    assert (artifact.labels, artifact.classes, artifact.input_shape) == (("cat", "dog", "owl"), 3, (6, 6, 1))


def test_weights_are_optional(tmp_path: Path, model: bytes):
    assert read_artifact(write_artifact(tmp_path, "animals", 1, model, None)).weights is None


@pytest.fixture
def int8(metadata: Metadata, linear_model: LinearModel) -> Callable[..., bytes]:
    """Make what says that it is `metadata`'s model in 8 bits, with changes."""

    def make(**changes: object) -> bytes:
        changed = dataclasses.replace(metadata, **{"precision": "int8", "metrics": {}} | changes)
        return linear_model(changed).SerializeToString()

    return make


def test_a_version_may_hold_the_model_in_8_bits_too(tmp_path: Path, model: bytes, int8: Callable[..., bytes]):
    directory = write_artifact(tmp_path, "animals", 1, model, None, int8(metrics={"accuracy": 0.5}))
    check = subprocess.run(["sha256sum", "--check", "SHA256SUMS"], cwd=directory, capture_output=True, text=True)
    assert check.stdout.splitlines() == ["model.onnx: OK", "model.int8.onnx: OK"]
    artifact = read_artifact(directory)
    assert artifact.int8
    assert (artifact.model, artifact.int8.model) == (model, int8(metrics={"accuracy": 0.5}))
    assert artifact.int8.sha256 == hashlib.sha256(artifact.int8.model).hexdigest()
    assert artifact.int8.metadata.metrics == {"accuracy": 0.5}
    assert (artifact.run_in("fp32"), artifact.run_in("int8")) == (artifact, artifact.int8)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"precision": "fp32"}, "they must be in fp32 and int8; .*quantize --beside"),
        ({"recipe": {"quantization": {"graph_sha256": "0" * 64}}}, r"made of another model\.onnx, .*quantize --beside"),
        ({"labels": ("cat", "dog", "cow")}, "has other labels than model.onnx; .*quantize --beside"),
        ({"arguments": {}}, "has other arguments than"),
    ],
)
def test_another_model_beside_it_is_refused_when_written_and_when_read(
    tmp_path: Path, model: bytes, int8: Callable[..., bytes], changes: dict[str, object], told: str
):
    with pytest.raises(ArtifactError, match=told):
        write_artifact(tmp_path, "animals", 1, model, None, int8(**changes))
    directory = write_artifact(tmp_path, "animals", 1, model, None, int8())
    (directory / "model.int8.onnx").write_bytes(int8(**changes))
    write_sums(directory)
    with pytest.raises(ArtifactError, match=told):
        read_artifact(directory)


def test_a_broken_model_beside_it_is_named(tmp_path: Path, model: bytes, int8: Callable[..., bytes]):
    directory = write_artifact(tmp_path, "animals", 1, model, None, int8())
    (directory / "model.int8.onnx").write_bytes(int8()[:-20])
    write_sums(directory)
    with pytest.raises(ArtifactError, match=r"model\.int8\.onnx: not an ONNX model"):
        read_artifact(directory)


def test_the_next_version_is_beyond_all_that_are_there(tmp_path: Path, model: bytes):
    assert highest_version(tmp_path, "animals") == 0
    for version in (2, 10):
        write_artifact(tmp_path, "animals", version, model, None)
    (tmp_path / "animals" / "notes").touch()
    assert highest_version(tmp_path, "animals") == 10


def test_a_relative_directory_is_read(directory: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(directory)
    assert read_artifact(Path()).name == "animals"


def test_coreutils_accepts_the_sums(directory: Path):
    check = subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=directory, capture_output=True, text=True
    )
    assert check.stdout.splitlines() == ["model.onnx: OK", "model.safetensors: OK"]


def test_sums_of_coreutils_are_accepted(directory: Path):
    (directory / "curves.png").write_bytes(b"more files are welcome when they are listed")
    write_sums(directory)
    assert read_artifact(directory).name == "animals"


def test_other_users_may_read_what_was_written(directory: Path):
    assert directory.stat().st_mode & 0o005 == 0o005
    assert all(path.stat().st_mode & 0o004 for path in directory.iterdir())


@pytest.mark.parametrize("file", ["model.onnx", "model.safetensors"])
def test_a_flipped_bit_is_found(directory: Path, file: str):
    data = bytearray((directory / file).read_bytes())
    data[len(data) // 2] ^= 1
    (directory / file).write_bytes(data)
    with pytest.raises(ArtifactError, match=f"{file} has SHA-256"):
        read_artifact(directory)


@pytest.mark.parametrize("file", ["model.onnx", "model.safetensors", "SHA256SUMS"])
def test_a_missing_file_is_named(directory: Path, file: str):
    (directory / file).unlink()
    with pytest.raises(ArtifactError, match=f"{file} is missing|missing: {file}"):
        read_artifact(directory)


def test_a_file_that_is_not_listed_is_named(directory: Path):
    (directory / "notes.txt").write_text("added by hand")
    with pytest.raises(ArtifactError, match=r"not listed in SHA256SUMS: notes\.txt"):
        read_artifact(directory)


def test_sums_without_the_model_are_refused(directory: Path):
    (directory / "model.onnx").unlink()
    write_sums(directory)
    with pytest.raises(ArtifactError, match=r"missing: model\.onnx"):
        read_artifact(directory)


@pytest.mark.parametrize(
    "line",
    [
        "",
        "model.onnx",
        f"{'0' * 63}  model.onnx",
        f"{'0' * 64} model.onnx",
        f"{'0' * 64}  ../model.onnx",
        f"{'0' * 64}  model.onnx",
        f"{'0' * 64}  SHA256SUMS",
        "\xff" * 70,
    ],
    ids=["empty", "no digest", "short digest", "one space", "another folder", "twice", "itself", "not text"],
)
def test_a_bad_line_is_told(directory: Path, line: str):
    with (directory / "SHA256SUMS").open("ab") as sums:
        sums.write(line.encode("latin-1") + b"\n")
    with pytest.raises(ArtifactError, match="SHA256SUMS line 3"):
        read_artifact(directory)


@pytest.mark.parametrize("version", ["0", "01", "-1", "1.0", "latest"])
def test_a_version_is_a_positive_integer(directory: Path, version: str):
    with pytest.raises(ArtifactError, match="is not a version"):
        read_artifact(directory.rename(directory.parent / version))


@pytest.mark.parametrize("name", ["", ".hidden", "a/b", "a b", "x" * 65, "ü"])
def test_a_name_fits_a_path_and_an_address(tmp_path: Path, model: bytes, name: str):
    with pytest.raises(ArtifactError, match="is not a model name"):
        write_artifact(tmp_path, name, 1, model, None)


def test_errors_name_the_directory(directory: Path):
    (directory / "SHA256SUMS").unlink()
    with pytest.raises(ArtifactError, match=str(directory)):
        read_artifact(directory)


def test_a_missing_directory_is_an_artifact_error(tmp_path: Path):
    with pytest.raises(ArtifactError, match="animals/1: no such directory"):
        read_artifact(tmp_path / "animals" / "1")


def test_a_model_of_which_no_version_is_named_tells_its_newest(directory: Path):
    (directory.parent / "12").mkdir()
    with pytest.raises(ArtifactError, match=r"name one of them, the newest is .*/animals/12$"):
        read_artifact(directory.parent)


def test_a_folder_inside_is_an_artifact_error(directory: Path):
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").mkdir()
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_artifact(directory)


def test_a_version_is_never_overwritten(directory: Path, model: bytes):
    before = {path: path.read_bytes() for path in directory.iterdir()}
    with pytest.raises(ArtifactError, match="never overwritten"):
        write_artifact(directory.parent.parent, "animals", 3, model, b"other")
    assert {path: path.read_bytes() for path in directory.iterdir()} == before


@contextmanager
def files_limited_to(size: int) -> Iterator[None]:
    """As on a full disk, a longer write fails."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_failed_write_leaves_nothing(tmp_path: Path, model: bytes):
    with files_limited_to(len(model) + 10), pytest.raises(ArtifactError, match="cannot be written"):
        write_artifact(tmp_path, "animals", 1, model, bytes(len(model) + 100))
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_other_versions(directory: Path, model: bytes):
    with files_limited_to(len(model) + 10), pytest.raises(ArtifactError, match="cannot be written"):
        write_artifact(directory.parent.parent, "animals", 4, model, bytes(len(model) + 100))
    assert list(directory.parent.iterdir()) == [directory]


@pytest.mark.parametrize("options", ["ro", "size=16k"])
def test_a_place_that_cannot_be_written_is_refused_before_anything_is_made(tmp_path: Path, options: str):
    namespace = ("unshare", "--user", "--map-root-user", "--mount")
    mount = ("mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path))
    if subprocess.run([*namespace, *mount], capture_output=True, check=False).returncode:
        pytest.skip("no file systems of its own here")
    vacant = "import sys, pathlib, models.artifact.artifact as a; a.vacant_directory(pathlib.Path(sys.argv[1]), 'm', 1)"
    script = f'{" ".join(mount)} && exec "$1" -c "$2" "$3"'
    command = [*namespace, "sh", "-c", script, "sh", sys.executable, vacant, str(tmp_path / "models")]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    reason = {"ro": "Read-only file system", "size=16k": "No space left on device"}[options]
    assert f"ArtifactError: {tmp_path}/models/m/1 cannot be written: {reason}; make it writable" in ended.stderr


def test_a_file_in_place_of_the_repository_is_refused_before_anything_is_made(tmp_path: Path):
    (tmp_path / "models").write_bytes(b"")
    with pytest.raises(ArtifactError, match="models/m/1 cannot be written: Not a directory; make it writable"):
        vacant_directory(tmp_path / "models", "m", 1)


_WRITER = """
import os, sys
from pathlib import Path
from models.artifact.artifact import write_artifact

def waiting(descriptor):
    print("half-written", flush=True)
    sys.stdin.readline()

os.fsync = waiting
write_artifact(Path(sys.argv[1]), "animals", int(sys.argv[2]), Path(sys.argv[3]).read_bytes(), None)
"""


@contextmanager
def half_written(repository: Path, model: bytes) -> Iterator[subprocess.Popen[str]]:
    """A process that has written a part of version 4, and goes on once its input ends."""
    file = repository.parent / "written.onnx"
    file.write_bytes(model)
    command = [sys.executable, "-c", _WRITER, str(repository), "4", str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "half-written\n"
        yield writer


def test_what_a_killed_writer_left_is_removed_by_the_next(directory: Path, model: bytes):
    with half_written(directory.parent.parent, model) as writer:
        writer.kill()
    assert len(list(directory.parent.iterdir())) == 2
    assert highest_version(directory.parent.parent, "animals") == 3
    written = write_artifact(directory.parent.parent, "animals", 4, model, None)
    assert sorted(directory.parent.iterdir()) == [directory, written]


def test_what_another_writer_has_at_work_is_left_to_it(directory: Path, model: bytes):
    with half_written(directory.parent.parent, model) as writer:
        written = write_artifact(directory.parent.parent, "animals", 5, model, None)
        writer.communicate("")
        assert writer.returncode == 0
    assert sorted(directory.parent.iterdir()) == [directory, directory.with_name("4"), written]


def set_input(model: onnx.ModelProto, dtype: int, shape: list[int | str]) -> None:
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", dtype, shape))


def set_output(model: onnx.ModelProto, name: str, classes: int) -> None:
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", classes]))


def keep_weight_outside(model: onnx.ModelProto) -> None:
    model.graph.initializer[0].data_location = TensorProto.EXTERNAL


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda model: model.ClearField("metadata_props"), "no metadata under 'resnet_serve'"),
        (keep_weight_outside, "external files"),
        (lambda model: set_input(model, TensorProto.FLOAT, ["batch", 6, 6, 1]), r"image: float32 \['batch', 6, 6, 1\]"),
        (lambda model: set_input(model, TensorProto.UINT8, ["batch", 1, 6, 6]), r"image: uint8 \['batch', 1, 6, 6\]"),
        (lambda model: set_input(model, TensorProto.UINT8, [8, 6, 6, 1]), "dynamic batch"),
        (lambda model: model.graph.input.add(name="second", type=model.graph.input[0].type), "second"),
        (lambda model: set_output(model, "logits", 4), r"logits: float32 \['batch', 4\]"),
        (lambda model: set_output(model, "scores", 3), "scores"),
        (lambda model: model.graph.ClearField("output"), "output must be one .* but is none"),
    ],
)
def test_a_graph_that_contradicts_the_metadata_is_refused(
    directory: Path, damage: Callable[[onnx.ModelProto], None], message: str
):
    model = onnx.load(directory / "model.onnx", load_external_data=False)
    damage(model)
    (directory / "model.onnx").write_bytes(model.SerializeToString())
    write_sums(directory)
    with pytest.raises(ArtifactError, match=message):
        read_artifact(directory)


def test_a_contradiction_is_not_written(tmp_path: Path, metadata: Metadata, linear_model: LinearModel):
    contradiction = linear_model(dataclasses.replace(metadata, labels=("cat", "dog")))
    with pytest.raises(ArtifactError, match="logits"):
        write_artifact(tmp_path, "animals", 1, contradiction.SerializeToString(), None)
    assert not (tmp_path / "animals").exists()


def test_neither_torch_nor_onnx_is_needed():
    script = (
        "import sys, models.artifact.artifact, models.images.decoder\n"
        "import models.engines.engine, models.engines.onnx_engine, models.engines.golden\n"
        "print([name for name in ('torch', 'onnx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"


# What is no artifact but an attempt


def link_out(path: Path) -> None:
    """Move it out of the repository, and leave a link."""
    path.symlink_to(path.rename(path.parents[3] / path.name))


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_huge(path: Path) -> None:
    os.truncate(path, 1 << 32)  # sparse


@pytest.mark.parametrize(
    ("name", "damage", "told"),
    [
        ("model.onnx", link_out, "model.onnx is a link that leads out of the repository"),
        ("SHA256SUMS", link_out, "SHA256SUMS is a link that leads out of the repository"),
        ("model.onnx", make_pipe, "model.onnx is no regular file"),
        ("model.onnx", make_huge, "model.onnx has 4294967296 bytes, and at most"),
        ("SHA256SUMS", make_huge, "SHA256SUMS has 4294967296 bytes, and at most"),
    ],
)
def test_only_regular_files_of_the_repository_are_read_up_to_their_limit(
    directory: Path, name: str, damage: Callable[[Path], None], told: str
):
    damage(directory / name)
    with pytest.raises(ArtifactError, match=told):
        read_artifact(directory, within=directory.parents[1])


def test_a_version_may_not_be_a_link_that_leads_out(directory: Path):
    elsewhere = directory.rename(directory.parents[2] / "elsewhere")
    directory.symlink_to(elsewhere)
    with pytest.raises(ArtifactError, match="leads out of the repository"):
        read_artifact(directory, within=directory.parents[1])


def test_links_inside_the_repository_are_followed_and_any_without_one(directory: Path, model: bytes):
    (directory.parent / "4").symlink_to("3")
    assert read_artifact(directory.parent / "4", within=directory.parents[1]).model == model
    link_out(directory / "model.onnx")
    assert read_artifact(directory).model == model


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"height": 60_000, "width": 60_000, "resize": 60_000}, "an input image takes 3600000000 bytes"),
        ({"labels": 100_001}, "it has 100001 classes; at most 100000 are possible"),
    ],
)
def test_absurd_sizes_are_refused(metadata: Metadata, linear_model: LinearModel, changes: dict[str, int], told: str):
    labels = tuple(map(str, range(changes.pop("labels", 3))))
    preprocessing = dataclasses.replace(metadata.preprocessing, **changes)
    absurd = dataclasses.replace(metadata, labels=labels, preprocessing=preprocessing)
    with pytest.raises(ArtifactError, match=told):
        read_metadata(linear_model(absurd).SerializeToString())
