"""A released model on disk, `<repository>/<model>/<version>/`: verified when read, written completely or not at all."""

import contextlib
import fcntl
import hashlib
import math
import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from models.artifact.metadata import METADATA_KEY, ArtifactError, Metadata
from models.artifact.onnx_file import OnnxFile, Tensor, graph_sha256, read_onnx

MODEL_FILE = "model.onnx"
INT8_FILE = "model.int8.onnx"
WEIGHTS_FILE = "model.safetensors"
FILES = (MODEL_FILE, INT8_FILE, WEIGHTS_FILE)
"""What is read of a version; only the first has to be there."""
SUMS_FILE = "SHA256SUMS"
SIGNATURE_FILE = "model.sig"
MOST_SIGNATURE_BYTES = 1 << 20

LARGEST_FILE = (1 << 31) - 1  # bytes; protobuf, and so ONNX, has no larger messages
LARGEST_SUMS = 1 << 16  # bytes, for hundreds of files
LARGEST_INPUT = 1 << 26  # bytes: 4,700 x 4,700 pixels in colour, far more than any network in use
MOST_CLASSES = 100_000  # five times those of the largest public set of labelled pictures

_LEAST_FREE = 1 << 16
"""Bytes that must be free before a version is made: fewer than nearly all models take."""

_PARTIAL = ".part"
"""End of the temporary name of a version that is being written."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")
_SUMS_LINE = re.compile(r"([0-9a-f]{64}) [ *]([^/\0]+)")


OriginCheck = Callable[[Path, Mapping[str, str]], None]
"""Raises ArtifactError if the files with these digests, by name, are not of whom the folder's signature must be."""


@dataclass(frozen=True, slots=True)
class Artifact:
    """A released model whose files have been read once and agree with each other."""

    name: str
    version: int
    metadata: Metadata
    model: bytes
    """The bytes of `model.onnx`."""
    sha256: str
    """SHA-256 of `model.onnx`, in hexadecimal."""
    weights: bytes | None
    """The bytes of `model.safetensors`, for the PyTorch engine."""
    int8: "Artifact | None" = None
    """The same model in 8 bits, with its own accuracy and golden examples: `model.int8.onnx`."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Name of each class, in the order of the logits."""
        return self.metadata.labels

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.metadata.labels)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width, channels of one input image."""
        return self.metadata.preprocessing.shape

    def run_in(self, precision: str) -> "Artifact":
        """What is run in a precision: for `int8` the model in 8 bits, if there is one beside it, else the model."""
        return self.int8 if precision == "int8" and self.int8 else self


def read_artifact(directory: Path, check_origin: OriginCheck | None = None, within: Path | None = None) -> Artifact:
    """Read and check one version; raises ArtifactError that names the directory and says what is wrong.

    `check_origin` is asked about the files and digests that were read, `SHA256SUMS` among them.
    No link may lead out of `within`, the repository, if that is given.
    """
    directory = directory.absolute()
    try:
        name, version = directory.parent.name, directory.name
        _check_there(directory)
        _check_place(name, version)
        files = _read_files(directory, within and within.resolve())
        if check_origin:
            check_origin(directory, {file: digest for file, (_, digest) in files.items()})
        model, sha256 = files[MODEL_FILE]
        weights, _ = files.get(WEIGHTS_FILE, (None, ""))
        metadata, int8 = read_metadata(model), None
        if INT8_FILE in files:
            graph, digest = files[INT8_FILE]
            int8 = Artifact(name, int(version), _read_int8(graph, metadata, model), graph, digest, None)
        return Artifact(name, int(version), metadata, model, sha256, weights, int8)
    except ArtifactError as error:
        raise ArtifactError(error.reason, directory) from error
    except OSError as error:
        raise ArtifactError(
            f"cannot be read: {error.strerror}; it must be a folder that you may read", directory
        ) from error


def read_metadata(model: bytes) -> Metadata:
    """The metadata inside the bytes of a `model.onnx`, once the graph's interface agrees with it."""
    onnx_file = read_onnx(model)
    if METADATA_KEY not in onnx_file.metadata:
        raise ArtifactError(f"no metadata under {METADATA_KEY!r}; make the model with `resnet-train export`")
    metadata = Metadata.from_json(onnx_file.metadata[METADATA_KEY])
    _check_interface(onnx_file, metadata)
    return metadata


def _read_int8(graph: bytes, metadata: Metadata, model: bytes) -> Metadata:
    """The metadata of `model.int8.onnx`, which must be `model`, whose metadata these are, in 8 bits."""
    try:
        int8 = read_metadata(graph)
    except ArtifactError as error:
        raise ArtifactError(f"{INT8_FILE}: {error.reason}") from error
    if (metadata.precision, int8.precision) != ("fp32", "int8"):
        raise ArtifactError(
            f"{MODEL_FILE} is in {metadata.precision} and {INT8_FILE} in {int8.precision}: they must be in fp32 and "
            "int8; make them with `resnet-train quantize --beside`"
        )
    for name in ("architecture", "arguments", "labels", "preprocessing"):
        if getattr(metadata, name) != getattr(int8, name):
            raise ArtifactError(
                f"{INT8_FILE} has other {name} than {MODEL_FILE}; make it of that with `resnet-train quantize --beside`"
            )
    match int8.recipe.get("quantization"):
        case {"graph_sha256": str() as origin} if origin != graph_sha256(model):
            raise ArtifactError(
                f"{INT8_FILE} was made of another {MODEL_FILE}, beside which its accuracy was measured; make it of "
                "this one with `resnet-train quantize --beside`"
            )
    return int8


def highest_version(repository: Path, name: str) -> int:
    """The highest version of a model that is there, whole or not; 0 if there is none."""
    versions = (int(entry.name) for entry in (repository / name).glob("*") if is_version(entry.name))
    return max(versions, default=0)


def vacant_directory(repository: Path, name: str, version: int) -> Path:
    """Where `write_artifact` would write a version; ArtifactError if it exists or cannot be made there."""
    _check_place(name, str(version))
    directory = repository / name / str(version)
    try:
        if directory.exists():
            raise ArtifactError(f"{directory} exists and is never overwritten; choose a higher version with --version")
        there = next(folder for folder in directory.absolute().parents if folder.exists())
        with tempfile.TemporaryFile(dir=there, buffering=0) as file:
            os.posix_fallocate(file.fileno(), 0, _LEAST_FREE)
    except OSError as error:
        raise _not_written(directory, error) from error
    return directory


def write_artifact(
    repository: Path, name: str, version: int, model: bytes, weights: bytes | None, int8: bytes | None = None
) -> Path:
    """Write `<repository>/<name>/<version>/` completely or not at all; never overwrites a version."""
    directory = vacant_directory(repository, name, version)
    metadata = read_metadata(model)
    if int8 is not None:
        _read_int8(int8, metadata, model)
    parts = {MODEL_FILE: model, INT8_FILE: int8, WEIGHTS_FILE: weights}
    files = {file: data for file, data in parts.items() if data is not None}
    files[SUMS_FILE] = "".join(f"{_sha256(data)}  {file}\n" for file, data in files.items()).encode()
    try:
        directory.parent.mkdir(parents=True, exist_ok=True)
        try:
            _write_directory(directory, files)
        except BaseException:
            with contextlib.suppress(OSError):  # a model without a version would be one that fails
                directory.parent.rmdir()
            raise
    except OSError as error:
        raise _not_written(directory, error) from error
    return directory


def _not_written(directory: Path, error: OSError) -> ArtifactError:
    return ArtifactError(
        f"{directory} cannot be written: {error.strerror or error}; make it writable or make room there, or choose "
        "another repository"
    )


def is_model_name(name: str) -> bool:
    """Whether a model may have this name."""
    return bool(_NAME.fullmatch(name))


def is_version(name: str) -> bool:
    """Whether this is a version: a positive integer without leading zeros."""
    return bool(_VERSION.fullmatch(name))


def parse_sums(data: bytes) -> dict[str, str]:
    """File name -> digest, from the format of coreutils' `sha256sum`; ArtifactError."""
    sums: dict[str, str] = {}
    for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), start=1):
        match = _SUMS_LINE.fullmatch(line)
        if match is None or match[2] in {*sums, SUMS_FILE, SIGNATURE_FILE}:
            raise ArtifactError(
                f"{SUMS_FILE} line {number} is not `<sha256>  <file>`, each file once: {line[:100]!r}; make it with "
                f"`sha256sum * > {SUMS_FILE}`"
            )
        sums[match[2]] = match[1]
    return sums


def _check_there(directory: Path) -> None:
    if not directory.is_dir():
        raise ArtifactError("no such directory; it must be <repository>/<model>/<version>")
    newest = highest_version(directory.parent, directory.name)
    if newest and not is_version(directory.name):
        raise ArtifactError(f"a model with versions; name one of them, the newest is {directory / str(newest)}")


def _check_place(name: str, version: str) -> None:
    if not is_model_name(name):
        raise ArtifactError(
            f"{name!r} is not a model name: it needs a-z, A-Z, 0-9, '.', '_', '-', at most 64, the first no sign"
        )
    if not is_version(version):
        raise ArtifactError(f"{version!r} is not a version: it must be a positive integer without leading zeros")


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_files(directory: Path, within: Path | None) -> dict[str, tuple[bytes, str]]:
    """Every file that SHA256SUMS lists, and itself, read once, with its verified digest; of other files no bytes."""
    sums_file = directory / SUMS_FILE
    if not sums_file.is_file():
        raise ArtifactError(f"{SUMS_FILE} is missing; make it with `sha256sum * > {SUMS_FILE}` if you trust the files")
    sums_bytes = _read_file(sums_file, within, LARGEST_SUMS)
    sums = parse_sums(sums_bytes)
    present = {entry.name for entry in directory.iterdir()} - {SUMS_FILE, SIGNATURE_FILE}
    if missing := sorted({MODEL_FILE, *sums} - present):
        raise ArtifactError(f"missing: {', '.join(missing)}; copy the whole directory again")
    if extra := sorted(present - sums.keys()):
        raise ArtifactError(f"not listed in {SUMS_FILE}: {', '.join(extra)}; remove or list them")
    files = {SUMS_FILE: (sums_bytes, _sha256(sums_bytes))}
    for file, expected in sums.items():
        data = _read_file(directory / file, within, LARGEST_FILE)
        if (actual := _sha256(data)) != expected:
            raise ArtifactError(
                f"{file} has SHA-256 {actual}, {SUMS_FILE} says {expected}; copy the whole directory again"
            )
        files[file] = data if file in FILES else b"", actual
    return files


def _read_file(path: Path, within: Path | None, most: int) -> bytes:
    """The bytes of a regular file, below `within` if that is given, that has at most so many."""
    place = path.resolve()
    if within and not place.is_relative_to(within):
        raise ArtifactError(f"{path.name} is a link that leads out of the repository; put the file itself there")
    with open(place, "rb", opener=_open_at_once) as stream:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path.name} is no regular file; put a copy of the file there")
        if status.st_size > most:
            raise ArtifactError(f"{path.name} has {status.st_size} bytes, and at most {most} are read")
        return stream.read(status.st_size)  # memory is taken for as much as is asked for


def _open_at_once(path: str, flags: int) -> int:
    """Open a file; a pipe without a writer would be waited for."""
    return os.open(path, flags | os.O_NONBLOCK)


def _check_interface(onnx_file: OnnxFile, metadata: Metadata) -> None:
    """The graph takes and gives what the metadata says, and lives in this one file."""
    if onnx_file.external_data:
        raise ArtifactError("the model keeps tensors in external files; save it as one file")
    if (size := math.prod(metadata.preprocessing.shape)) > LARGEST_INPUT:
        raise ArtifactError(f"an input image takes {size} bytes; at most {LARGEST_INPUT} are possible")
    if len(metadata.labels) > MOST_CLASSES:
        raise ArtifactError(f"it has {len(metadata.labels)} classes; at most {MOST_CLASSES} are possible")
    _check_tensors("input", onnx_file.inputs, "image", "uint8", metadata.preprocessing.shape)
    _check_tensors("output", onnx_file.outputs, "logits", "float32", (len(metadata.labels),))


def _check_tensors(kind: str, tensors: tuple[Tensor, ...], name: str, dtype: str, shape: tuple[int, ...]) -> None:
    if len(tensors) == 1:
        (tensor,) = tensors
        dynamic = tensor.shape[:1] and isinstance(tensor.shape[0], str)
        if dynamic and (tensor.name, tensor.dtype, tensor.shape[1:]) == (name, dtype, shape):
            return
    found = ", ".join(f"{tensor.name}: {tensor.dtype} {list(tensor.shape)}" for tensor in tensors) or "none"
    wanted = f"{name}: {dtype} {['batch', *shape]}"
    raise ArtifactError(
        f"the graph's {kind} must be one {wanted} with a dynamic batch, but is {found}; export it again"
    )


def _write_directory(directory: Path, files: dict[str, bytes]) -> None:
    """All files reach the disk under a temporary name before the directory appears under its own."""
    with _at_work_in(directory.parent):
        temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}.", suffix=_PARTIAL, dir=directory.parent))
        try:
            for file, data in files.items():
                with (temporary / file).open("xb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
            temporary.chmod(0o755)  # mkdtemp's 0o700 would shut out a server that runs as another user
            fsync_directory(temporary)
            temporary.rename(directory)
            fsync_directory(directory.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                shutil.rmtree(temporary)
            raise


@contextlib.contextmanager
def _at_work_in(folder: Path) -> Iterator[None]:
    """Count as a writer of this model; the only one removes what killed ones have left half-written."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # others are at work, or the file system knows no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            for left in folder.glob(f".*{_PARTIAL}"):
                shutil.rmtree(left)
        with contextlib.suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_SH)  # those that have it to themselves only remove
        yield
    finally:
        os.close(descriptor)


def fsync_directory(directory: Path) -> None:
    """Flush a directory's entries to the disk."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
