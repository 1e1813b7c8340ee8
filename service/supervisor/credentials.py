"""The API keys and the certificates, which SIGHUP has read again; what is wrong changes nothing."""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

from service.auth.guard import Guard
from service.auth.keys import read_keys
from service.auth.tls import ServerTls
from service.config.settings import SettingError, Settings
from service.ipc.control import ChangeKeys, ControlMessage, ReloadTls
from service.metrics.metrics import Metrics
from service.policy import CREDENTIALS_S
from service.pools.reactor import Reactor
from service.supervisor.side_reader import Failure, SideReader

log = structlog.get_logger()


class Credentials:
    """Reads them beside the supervisor; `tell` reaches the API processes, and what starts later inherits them."""

    def __init__(
        self,
        reactor: Reactor,
        settings: Settings,
        guard: Guard | None,
        tls: ServerTls | None,
        metrics: Metrics,
        tell: Callable[[ControlMessage], object],
    ) -> None:
        self._settings, self._guard, self._tls, self._metrics, self._tell = settings, guard, tls, metrics, tell
        self._keys_reader = SideReader[str](reactor, "the API keys", CREDENTIALS_S, (SettingError,))
        self._tls_reader = SideReader[None](reactor, "the certificates", CREDENTIALS_S, (SettingError,))

    def reload(self) -> None:
        """Begin to read those that the server has."""
        if self._guard and self._guard.has_keys:
            self._keys_reader.read(partial(_read_keys, self._settings), partial(self._on_keys, self._guard))
        if self._tls:
            self._tls_reader.read(partial(_read_tls, self._settings, self._tls), partial(self._on_tls, self._tls))

    def look(self, now_s: float) -> None:
        """End a reading that takes too long."""
        self._keys_reader.look(now_s)
        self._tls_reader.look(now_s)

    def close(self) -> None:
        """End what is being read."""
        self._keys_reader.close()
        self._tls_reader.close()

    def _on_keys(self, guard: Guard, lines: str | Failure) -> None:
        try:
            if isinstance(lines, Failure):
                raise SettingError(lines.reason)
            guard.change_keys(lines)
        except SettingError as error:
            log.error("keys not changed", reason=str(error))
        else:
            self._tell(ChangeKeys(lines))

    def _on_tls(self, tls: ServerTls, failure: Failure | None) -> None:
        """The files have just been read without an error, so they can be read here, too."""
        try:
            if failure:
                raise SettingError(failure.reason)
            tls.reload()
        except SettingError as error:
            log.error("certificates not changed", reason=str(error))
        else:
            self._tell(ReloadTls())
            note_dates(tls, self._metrics)


def note_dates(tls: ServerTls, metrics: Metrics) -> None:
    """Tell when the certificate expires; one that is not valid now is shown as well, for the clock may be wrong."""
    if dates := tls.dates:
        metrics.certificate_expiry.set(dates.ends_s)
        if not dates.begins_s <= time.time() <= dates.ends_s:
            reason = "it is not valid yet" if time.time() < dates.begins_s else "it has expired"
            log.error("certificate not valid now", file=str(tls.certificate), reason=reason)


def _read_keys(settings: Settings) -> str:
    _check_files(settings.api_key_file)
    return read_keys(settings) or ""


def _read_tls(settings: Settings, tls: ServerTls) -> None:
    _check_files(settings.tls_certificate, settings.tls_key, settings.tls_client_ca)
    tls.reload()


def _check_files(*paths: Path | None) -> None:
    """Raise SettingError for a pipe: who reads it waits until somebody writes to it."""
    for path in filter(None, paths):
        if path.exists() and not path.is_file():
            raise SettingError(f"{path} is no file: what is to be read again while the server runs must be one")
