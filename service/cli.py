"""The command `resnet-serve`: serve (also meant without a sub-command), predict, check, health, key.

What each command needs is imported when it is chosen: `--help` answers at once. What keeps a server from starting is
told in the format of its log, as far as that is known before the settings are.
"""

import os
import signal
import sys
from importlib.metadata import version
from types import FrameType

import structlog
from pydantic_settings import SettingsError

from models.artifact.metadata import ArtifactError
from models.command_line import (
    accept_any_text,
    accept_signals,
    check_arguments,
    open_standard_streams,
    read_options,
)
from models.engines.engine import EngineError
from models.machine.devices import DeviceError
from service.catalog.repository import RepositoryError
from service.config.service_links import drop_service_links
from service.config.settings import ENV_PREFIX, SettingError, Settings
from service.process.logs import configure_logs, is_for_people

FAILURE, USAGE_ERROR, INTERRUPTED = 1, 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    open_standard_streams()
    accept_any_text()
    accept_signals()
    arguments = sys.argv[1:] if arguments is None else arguments
    is_shell = arguments[:1] in (["predict"], ["check"], ["health"], ["key"])
    say = _say if is_shell or is_for_people(_log_format(arguments)) else _log
    try:
        check_arguments(arguments)
        if dropped := drop_service_links():
            say(f"ignored, for Kubernetes sets them for Services: {', '.join(dropped)}", "warning")
        return _run(arguments, explain_usage=say is _say)
    except (SettingsError, SettingError) as error:
        say(str(error), "critical")
        return USAGE_ERROR
    except (RepositoryError, ArtifactError, EngineError, DeviceError) as error:
        say(str(error), "critical")
        return FAILURE
    except OSError as error:
        say(": ".join(str(part) for part in (error.filename, error.strerror or error) if part), "critical")
        return FAILURE
    except MemoryError:
        say("there is not enough memory: allow it more; `ulimit -v` tells a limit that the shell sets", "critical")
        return USAGE_ERROR
    except KeyboardInterrupt:
        say("stopped by SIGINT", "info")
        return INTERRUPTED


def _run(arguments: list[str], *, explain_usage: bool) -> int:
    """`explain_usage`: answer a flag that there is not with all that there are; else SettingsError."""
    match arguments:
        case ["predict", *rest]:
            from service.commands.predict import Predict, predict

            return predict(read_options(Predict, rest))
        case ["check", *rest]:
            from service.commands.check import Check, check

            return check(read_options(Check, rest))
        case ["health", *rest]:
            from service.commands.health import Health, health

            return health(read_options(Health, rest))
        case ["key", *rest]:
            from service.commands.key import NewKey, new_key

            return new_key(read_options(NewKey, rest))
        case ["--version"] | ["serve", "--version"]:
            print(f"resnet-serve {version('resnet-serve')}")  # noqa: T201
            return 0
        case ["serve", *rest] | rest:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                signal.signal(number, _leave)  # until the supervisor takes over; a first process would ignore them
            signal.signal(signal.SIGHUP, lambda *_: None)  # what it has read again is read in a moment
            settings = read_options(Settings, rest, exit_on_error=explain_usage)
            from service.commands.serve import serve

            return serve(settings)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _log_format(arguments: list[str]) -> str:
    """What --log-format or its variable asks for, also if the other settings are wrong."""
    for i, argument in enumerate(arguments):
        name, _, value = argument.partition("=")
        if name == "--log-format":
            return value or (arguments[i + 1 : i + 2] or [""])[0]
    return os.environ.get(f"{ENV_PREFIX}LOG_FORMAT", "auto")


def _say(text: str, _level: str) -> None:
    print(f"resnet-serve: {text}", file=sys.stderr)  # noqa: T201


def _log(text: str, level: str) -> None:
    configure_logs("json", "info")
    event = "not started" if level == "critical" else "settings"
    getattr(structlog.get_logger(), level)(event, reason=text)
