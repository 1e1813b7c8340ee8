"""TLS: the certificate that the server shows, and whose certificates it asks for."""

import ssl
from pathlib import Path

from service.auth.certificate_dates import CertificateDates, certificate_dates
from service.config.settings import SettingError, Settings


class ServerTls:
    """The contexts that new connections are made with; those that are there keep theirs.

    It is made before the API processes, which inherit it; each reloads its own when the supervisor tells all of them.
    """

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None) -> None:
        """PEM files: the certificate and those between it and its root, its private key, roots of clients' ones."""
        self.certificate, self._key, self._client_ca = certificate, key, client_ca
        self.reload()

    def reload(self) -> None:
        """Read the files again; SettingError, and nothing changes, if one is not what it should be."""
        open_, asking = self._context(), self._context()
        if self._client_ca:
            try:
                asking.load_verify_locations(self._client_ca)
            except (OSError, ssl.SSLError) as error:
                raise SettingError(f"--tls-client-ca {self._client_ca}: {_reason(error)}") from error
            asking.verify_mode = ssl.CERT_REQUIRED
        self._open, self._asking = open_, asking

    def context(self, *, asks_client: bool) -> ssl.SSLContext:
        """For the next connection; `asks_client`: only clients with a certificate, where --tls-client-ca is set."""
        return self._asking if asks_client else self._open

    @property
    def dates(self) -> CertificateDates | None:
        """When the certificate is valid that the server shows; None if its file has another one now."""
        return certificate_dates(self._open, self.certificate)

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        show_certificate(context, self.certificate, self._key, "--tls")
        return context


def show_certificate(context: ssl.SSLContext, certificate: Path, key: Path, of: str) -> None:
    """Have the context show this certificate, `of` --tls or --client, as errors name its files; SettingError."""

    def no_password() -> str:
        raise SettingError(f"{of}-key is encrypted, which is not supported: give it without a password")

    try:
        context.load_cert_chain(certificate, key, password=no_password)
    except (OSError, ssl.SSLError) as error:
        raise SettingError(f"{of}-certificate {certificate}, {of}-key {key}: {_reason(error)}") from error


def _reason(error: OSError) -> str:
    """What is wrong with the files, in words of ours: OpenSSL's are of its insides."""
    if not isinstance(error, ssl.SSLError):
        return f"cannot be read: {error.strerror}"
    if "mismatch" in str(error).lower():
        return "the key is not that of the certificate; give those that belong together"
    return "it is not what is needed; give PEM files"


def make_tls(settings: Settings) -> ServerTls | None:
    """The TLS that the settings ask for, None for plain HTTP; SettingError."""
    certificate, key = settings.tls_certificate, settings.tls_key
    if certificate and key:
        return ServerTls(certificate, key, settings.tls_client_ca)
    if certificate or key:
        raise SettingError("TLS needs both --tls-certificate and --tls-key")
    if settings.tls_client_ca:
        raise SettingError("--tls-client-ca needs TLS: give --tls-certificate and --tls-key, too")
    return None
