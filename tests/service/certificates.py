"""Certificates for tests, as files."""

from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import trustme


class Files(NamedTuple):
    """PEM files of a certificate for 127.0.0.1, its key, and its root."""

    certificate: Path
    key: Path
    root: Path


def write_certificate(
    folder: Path, authority: trustme.CA | None = None, name: str = "127.0.0.1", expires: datetime | None = None
) -> Files:
    """A new certificate, of this authority or of a new one, in this folder; replaces one that is there."""
    authority = authority or trustme.CA()
    issued = authority.issue_cert(name, not_after=expires)
    folder.mkdir(exist_ok=True)
    files = Files(folder / "cert.pem", folder / "key.pem", folder / "root.pem")
    files.certificate.write_bytes(b"".join(part.bytes() for part in issued.cert_chain_pems))
    files.key.write_bytes(issued.private_key_pem.bytes())
    files.root.write_bytes(authority.cert_pem.bytes())
    return files
