"""Keys, and signatures of released models by the library's own program."""

import subprocess
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat


def make_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """A private key and its public one."""
    key = ec.generate_private_key(ec.SECP256R1())
    private, public = folder / f"{name}.pem", folder / f"{name}.pub"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def sign(directory: Path, private: Path, *flags: str) -> None:
    program = [sys.executable, "-m", "model_signing", "sign", "key", "--private_key", str(private)]
    subprocess.run([*program, "--signature", "model.sig", *flags, "."], cwd=directory, check=True, capture_output=True)
