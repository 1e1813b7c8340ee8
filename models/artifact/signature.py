"""Who released a model: a detached signature by OpenSSF Model Signing, held against the digests of what was read.

`SHA256SUMS` can be written by everyone who can write the model; a signature by those alone who have the private key. It
is a Sigstore bundle, `model.sig`, as `model_signing sign key` writes it (https://model-signing.org). Needs the extra
[signing].
"""

from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

from model_signing import hashing, verifying
from model_signing._hashing.hashing import Digest
from model_signing.manifest import FileManifestItem, Manifest, SerializationType

from models.artifact.artifact import MOST_SIGNATURE_BYTES, SIGNATURE_FILE
from models.artifact.metadata import ArtifactError


class TrustedKey:
    """The public key that released models must be signed with: an elliptic curve's, in a PEM file; ArtifactError."""

    def __init__(self, file: Path) -> None:
        try:
            verifying.Config().use_elliptic_key_verifier(public_key=file)
        except OSError as error:
            raise ArtifactError(f"the key {file} cannot be read: {error.strerror}; give a file that you may") from error
        except Exception as error:  # of a library, for each way in which it can be wrong
            raise ArtifactError(
                f"{file} is no public key that signs models; make one with `openssl ec -in KEY.pem -pubout`"
            ) from error
        self._file = file

    def check(self, directory: Path, digests: Mapping[str, str]) -> None:
        """Raise ArtifactError unless the folder's signature is by this key and names these files, and no others.

        The files themselves are not read: their SHA-256 digests, by name, are of the bytes that will be used.
        """
        signature = directory / SIGNATURE_FILE
        if not signature.is_file():
            raise ArtifactError(
                f"{SIGNATURE_FILE} is missing, and {self._file} is required to have signed it; sign the folder with "
                f"`model_signing sign key --private_key KEY.pem --signature {SIGNATURE_FILE} .`"
            )
        if signature.stat().st_size > MOST_SIGNATURE_BYTES:
            raise ArtifactError(f"{SIGNATURE_FILE} is larger than {MOST_SIGNATURE_BYTES} bytes: sign the folder again")
        config = verifying.Config().use_elliptic_key_verifier(public_key=self._file)
        try:
            config.set_hashing_config(_KnownDigests(digests)).verify(directory, signature)
        except Exception as error:  # of a library, for each way in which it can be wrong
            raise ArtifactError(
                f"{SIGNATURE_FILE} is no signature of these files by {self._file}: find out why before you sign them"
            ) from error


class _KnownDigests(hashing.Config):
    """Gives what was read before, where the library would read the folder again: it may have changed meanwhile."""

    def __init__(self, digests: Mapping[str, str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._digests = digests

    def hash(
        self,
        model_path: hashing.PathLike,  # noqa: ARG002
        *,
        files_to_hash: Iterable[hashing.PathLike] | None = None,  # noqa: ARG002
    ) -> Manifest:
        """The manifest of the files with these digests."""
        items = [
            FileManifestItem(path=PurePosixPath(name), digest=Digest("sha256", bytes.fromhex(digest)))
            for name, digest in self._digests.items()
        ]
        form = {"method": "files", "hash_type": "sha256", "allow_symlinks": False}
        return Manifest("", items, SerializationType.from_args(form))
