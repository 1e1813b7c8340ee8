"""Files of certificates: what is told of those that cannot be used."""

import subprocess
from pathlib import Path

import pytest

from service.auth.tls import ServerTls, make_tls
from service.config.settings import SettingError, Settings
from tests.service.certificates import write_certificate


def settings(**given: Path) -> Settings:
    return Settings(_cli_parse_args=False, **given)  # type: ignore[arg-type]


def test_without_files_there_is_no_tls() -> None:
    assert make_tls(settings()) is None


@pytest.mark.parametrize("given", [("tls_certificate",), ("tls_key",), ("tls_client_ca",)])
def test_half_of_the_files_is_an_error(given: tuple[str, ...]) -> None:
    with pytest.raises(SettingError, match="--tls-certificate and --tls-key"):
        make_tls(settings(**{name: Path("x") for name in given}))


def test_files_that_cannot_be_used_are_told_in_plain_words(tmp_path: Path) -> None:
    good, other = write_certificate(tmp_path / "good"), write_certificate(tmp_path / "other")
    text, encrypted = tmp_path / "text", tmp_path / "encrypted"
    text.write_text("no certificate")
    command = ["openssl", "pkey", "-in", str(good.key), "-aes256", "-passout", "pass:word", "-out", str(encrypted)]
    subprocess.run(command, check=True)
    for certificate, key, told in (
        (tmp_path / "none", good.key, "cannot be read: No such file or directory"),
        (good.certificate, other.key, "the key is not that of the certificate"),
        (text, good.key, "give PEM files"),
        (good.certificate, text, "give PEM files"),
        (good.certificate, encrypted, "--tls-key is encrypted"),
    ):
        with pytest.raises(SettingError, match=told):
            ServerTls(certificate, key, None)
    with pytest.raises(SettingError, match=r"--tls-client-ca .*: it is not what is needed"):
        ServerTls(good.certificate, good.key, text)


def test_what_is_wrong_in_new_files_changes_nothing(tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    tls = ServerTls(files.certificate, files.key, None)
    before = tls.context(asks_client=True)
    files.key.write_text("half")
    with pytest.raises(SettingError):
        tls.reload()
    assert tls.context(asks_client=True) is before
    write_certificate(tmp_path)
    tls.reload()
    assert tls.context(asks_client=True) is not before
