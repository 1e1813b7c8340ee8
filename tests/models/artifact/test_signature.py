"""Signatures, made by the library's own program, as a release would make them."""

import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from models.artifact.artifact import read_artifact
from models.artifact.metadata import ArtifactError
from models.artifact.signature import TrustedKey
from tests.artifacts import make_artifact
from tests.documents import ROOT, blocks, run
from tests.signing import make_keys, sign


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_keys(tmp_path_factory.mktemp("keys"), "ours")


@pytest.fixture(scope="module")
def signed_once(tmp_path_factory: pytest.TempPathFactory, keys: tuple[Path, Path]) -> Path:
    directory = make_artifact(tmp_path_factory.mktemp("signed"), "digits")
    sign(directory, keys[0])
    return directory


@pytest.fixture
def signed(signed_once: Path, tmp_path: Path) -> Path:
    """A version, `digits/1`, with a signature by our key."""
    return Path(shutil.copytree(signed_once, tmp_path / "digits" / "1"))


def rewrite(directory: Path) -> None:
    """Another model with sums that fit, as one who can write both would make it."""
    other = make_artifact(directory.parents[1] / "other", "digits", labels=("yes", "no"))
    for name in ("model.onnx", "SHA256SUMS"):
        shutil.copy(other / name, directory / name)


def test_what_our_key_has_signed_is_read_as_without_a_key(signed: Path, keys: tuple[Path, Path]) -> None:
    assert read_artifact(signed, TrustedKey(keys[1]).check) == read_artifact(signed)


def test_what_the_manual_says_signs_a_model(require: Callable[[str], str], tmp_path: Path) -> None:
    require("openssl")
    directory = make_artifact(tmp_path / "models", "digits")
    manual = (ROOT / "docs" / "operations.md").read_text()
    (block,) = [one for one in blocks(manual) if "model_signing sign" in one.script]
    run(f"export PATH={shlex.quote(str(Path(sys.executable).parent))}:$PATH\n{block.script}", tmp_path)
    read_artifact(directory, TrustedKey(tmp_path / "release.pub").check)


def test_another_model_with_sums_that_fit_is_refused(signed: Path, keys: tuple[Path, Path]) -> None:
    rewrite(signed)
    assert read_artifact(signed).labels == ("yes", "no"), "the sums alone find nothing"
    with pytest.raises(ArtifactError, match=r"digits/1: model.sig is no signature of these files by .*ours\.pub"):
        read_artifact(signed, TrustedKey(keys[1]).check)


def test_the_signature_of_another_key_is_refused(signed: Path, tmp_path: Path) -> None:
    _, other = make_keys(tmp_path, "theirs")
    with pytest.raises(ArtifactError, match=r"is no signature of these files by .*theirs\.pub"):
        read_artifact(signed, TrustedKey(other).check)


def test_a_model_without_a_signature_is_refused_and_how_to_sign_is_told(signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / "model.sig").unlink()
    with pytest.raises(ArtifactError, match=r"model\.sig is missing, .*`model_signing sign key --private_key"):
        read_artifact(signed, TrustedKey(keys[1]).check)


def test_a_signature_that_leaves_the_model_out_is_refused(signed: Path, keys: tuple[Path, Path]) -> None:
    (signed / "model.sig").unlink()
    sign(signed, keys[0], "--ignore-paths", "model.onnx")
    with pytest.raises(ArtifactError, match="is no signature of these files"):
        read_artifact(signed, TrustedKey(keys[1]).check)


def test_a_signature_that_is_too_large_is_not_read(signed: Path, keys: tuple[Path, Path]) -> None:
    with (signed / "model.sig").open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(ArtifactError, match=r"model\.sig is larger than 1048576 bytes"):
        read_artifact(signed, TrustedKey(keys[1]).check)


@pytest.mark.parametrize("content", ["", "{}", '{"verificationMaterial": {}}', "\x00\xff"])
def test_what_is_no_signature_is_refused(signed: Path, keys: tuple[Path, Path], content: str) -> None:
    (signed / "model.sig").write_text(content)
    with pytest.raises(ArtifactError, match="is no signature of these files"):
        read_artifact(signed, TrustedKey(keys[1]).check)


def test_the_bytes_that_were_read_are_what_is_checked(signed: Path, keys: tuple[Path, Path]) -> None:
    """Whoever can write the folder may exchange a file between the two."""
    key, asked = TrustedKey(keys[1]), []

    def check_late(directory: Path, digests: dict[str, str]) -> None:
        rewrite(directory)
        asked.append(digests.keys())
        key.check(directory, digests)

    assert read_artifact(signed, check_late).labels != ("yes", "no")  # type: ignore[arg-type]
    assert asked == [{"SHA256SUMS", "model.onnx"}]


def test_a_file_that_is_no_public_key_for_signatures_is_told(tmp_path: Path, keys: tuple[Path, Path]) -> None:
    wrong = rsa.generate_private_key(65537, 2048).public_key()
    (tmp_path / "rsa.pub").write_bytes(wrong.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    (tmp_path / "text").write_text("no key")
    for file in (tmp_path / "rsa.pub", tmp_path / "text", keys[0]):
        with pytest.raises(ArtifactError, match=f"{file.name} is no public key that signs models; make one with"):
            TrustedKey(file)
    with pytest.raises(ArtifactError, match="absent cannot be read: No such file"):
        TrustedKey(tmp_path / "absent")
