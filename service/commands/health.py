"""`resnet-serve health`: can the server with these settings take work now?"""

import http.client
import os
import ssl
import sys
from pathlib import Path

from pydantic import Field
from pydantic_settings import CliApp

from models.command_line import command_line
from service.config.settings import ENV_PREFIX, SettingError, Settings

TIMEOUT_S = 2.0  # for the answer
_EVERY_INTERFACE = {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "::": "::1"}  # noqa: S104 # nosec B104 - how each is reached from here


class Health(Settings):
    """Ask a server on this machine whether it can take work now: by the settings that it was started with.

    The exit code is 0 if it can, else 1.
    """

    model_config = command_line("resnet-serve health", env_prefix=ENV_PREFIX)

    of_process: int | None = Field(None, description="take the flags that this process was started with, by its id")


def health(options: Health) -> int:
    """Print what is wrong; the exit code."""
    settings = options if options.of_process is None else CliApp.run(Settings, cli_args=flags_of(options.of_process))
    host, port = _place_of_probes(settings)
    connection = _connection(settings, host, port)
    try:
        connection.request("GET", "/readyz")
        answer = connection.getresponse()
        problem = "" if answer.status == http.HTTPStatus.OK else answer.read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problem = f"no answer ({reason}): is a server with these settings running?"
    finally:
        connection.close()
    if problem:
        print(f"resnet-serve: {host} port {port}: {problem}", file=sys.stderr)  # noqa: T201
    return 1 if problem else 0


def _place_of_probes(settings: Settings) -> tuple[str, int]:
    """Host and port that answer probes, as they are reached from here; SettingError if that is not known."""
    host, port, flag = settings.host, settings.port, "--port"
    if settings.metrics_port is not None:
        host, port, flag = settings.admin_host or host, settings.metrics_port, "--metrics-port"
    elif settings.tls_client_ca:
        raise SettingError(
            "--tls-client-ca has the server ask for a certificate: give both a --metrics-port, which does not"
        )
    if not port:
        raise SettingError(f"{flag} 0 is whichever is free: give the port that the server has logged")
    return _EVERY_INTERFACE.get(host, host), port


def _connection(settings: Settings, host: str, port: int) -> http.client.HTTPConnection:
    """A connection of the server's kind; its certificate is for its name, not for this address, and is not checked."""
    if not settings.tls_certificate:
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=context)


def flags_of(pid: int) -> list[str]:
    """What this process, or one that it was told to start, gave to `resnet-serve`; SettingError if it is none."""
    try:
        words = os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")[:-1]
    except OSError as error:
        raise SettingError(f"process {pid} cannot be read ({error.strerror}): give the id of a resnet-serve") from error
    for i, word in enumerate(words):
        if Path(word).name == "resnet-serve" or words[i - 1 : i + 1] == ["-m", "service"]:
            flags = words[i + 1 :]
            return flags[1:] if flags[:1] == ["serve"] else flags
    raise SettingError(f"process {pid} is no resnet-serve: {' '.join(words)}")
