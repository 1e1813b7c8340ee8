"""From when until when a certificate is valid."""

import ssl
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

_NO_CHECK_TIME = 0x20_0000  # X509_V_FLAG_NO_CHECK_TIME of OpenSSL


class CertificateDates(NamedTuple):
    """Both in seconds of Unix time."""

    begins_s: float
    ends_s: float


def certificate_dates(context: ssl.SSLContext, file: Path) -> CertificateDates | None:
    """The dates of the certificate that this context shows, which is the first in the file; None if it is another now.

    A client that trusts the file shakes hands with the context in memory: that is how OpenSSL tells them without a
    library more.
    """
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = context.wrap_bio(to_server, to_client, server_side=True)
    client = trusting.wrap_bio(to_client, to_server)
    try:
        trusting.load_verify_locations(file)
        for side in (client, server, client):
            with suppress(ssl.SSLWantReadError):
                side.do_handshake()
    except OSError:
        return None
    shown = client.getpeercert() or {}
    return CertificateDates(*(ssl.cert_time_to_seconds(str(shown[name])) for name in ("notBefore", "notAfter")))
