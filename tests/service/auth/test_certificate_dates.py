"""The dates of a certificate, as OpenSSL's own command tells them."""

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.auth.certificate_dates import certificate_dates
from tests.service.certificates import Files, write_certificate


def context_of(files: Files) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(files.certificate, files.key)
    return context


@pytest.mark.parametrize("days", [-1, 30])
def test_dates_are_told_of_certificates_that_are_valid_and_of_those_that_were(tmp_path: Path, days: int) -> None:
    files = write_certificate(tmp_path, expires=datetime.now(UTC) + timedelta(days=days))
    command = ["openssl", "x509", "-noout", "-startdate", "-enddate", "-in", str(files.certificate)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    expected = tuple(ssl.cert_time_to_seconds(line.partition("=")[2]) for line in told[:2])
    assert certificate_dates(context_of(files), files.certificate) == expected


def test_a_file_that_has_another_certificate_now_tells_nothing(tmp_path: Path) -> None:
    files, other = write_certificate(tmp_path / "one"), write_certificate(tmp_path / "other")
    context = context_of(files)
    assert certificate_dates(context, other.certificate) is None
    assert certificate_dates(context, tmp_path / "none") is None
