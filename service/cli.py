"""The command `resnet-serve`: serve (also meant without a sub-command), predict, check.

What each command needs is imported when it is chosen: `--help` answers at once.
"""

import signal
import sys
from types import FrameType

from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from models.artifact.metadata import ArtifactError
from models.command_line import explain_options
from models.engines.engine import EngineError
from models.machine.devices import DeviceError
from service.repository import RepositoryError
from service.settings import ENV_PREFIX, SettingError, Settings, drop_service_links

FAILURE, USAGE_ERROR = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command; its exit code."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        dropped = drop_service_links()
        if dropped:
            _say(f"ignored, for Kubernetes sets them for Services: {', '.join(dropped)}")
        return _run(arguments)
    except ValidationError as error:
        return _fail(explain_options(error, env_prefix=ENV_PREFIX), USAGE_ERROR)
    except (SettingsError, SettingError) as error:
        return _fail(str(error), USAGE_ERROR)
    except (RepositoryError, ArtifactError, EngineError, DeviceError, OSError) as error:
        return _fail(str(error), FAILURE)


def _run(arguments: list[str]) -> int:
    match arguments:
        case ["predict", *rest]:
            from service.commands.predict import Predict, predict

            return predict(CliApp.run(Predict, cli_args=rest))
        case ["check", *rest]:
            from service.commands.check import Check, check

            return check(CliApp.run(Check, cli_args=rest))
        case ["serve", *rest] | rest:
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
                if signal.getsignal(number) != signal.SIG_IGN or number != signal.SIGHUP:  # by `nohup`
                    signal.signal(number, _leave)  # until the supervisor takes over; a first process would ignore them
            settings = CliApp.run(Settings, cli_args=rest)
            from service.commands.serve import serve

            return serve(settings)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)


def _say(text: str) -> None:
    print(f"resnet-serve: {text}", file=sys.stderr)  # noqa: T201


def _fail(text: str, code: int) -> int:
    _say(text)
    return code
