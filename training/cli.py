"""The command `resnet-train`; what a command needs is imported when it is chosen, so that help comes at once."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    CliSubCommand,
    PydanticBaseSettingsSource,
    SettingsError,
    get_subcommand,
)
from rich.console import Console

from models.artifact.metadata import ArtifactError
from models.command_line import accept_any_text, accept_signals, check_arguments, command_line, read_options
from models.engines.engine import EngineError
from training.errors import TrainingError, UsageError
from training.options import (
    CompareOptions,
    EvaluateOptions,
    ExperimentOptions,
    ExportOptions,
    FitOptions,
    ImportOptions,
    InfoOptions,
    InspectOptions,
    QuantizeOptions,
)
from training.stages import Stages

SUCCESS, FAILURE, USAGE_ERROR, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143


class Terminated(BaseException):
    """SIGTERM came while there were temporary files to remove."""


class ResnetTrain(BaseSettings):
    """Train residual networks, look at them, and export them."""

    model_config = command_line("resnet-train")

    info: CliSubCommand[InfoOptions] = Field(description="show a network's layers")
    inspect: CliSubCommand[InspectOptions] = Field(description="tell what an image folder holds")
    fit: CliSubCommand[FitOptions] = Field(description="train a network by a recipe")
    export: CliSubCommand[ExportOptions] = Field(description="make a released model of a checkpoint")
    evaluate: CliSubCommand[EvaluateOptions] = Field(description="measure a checkpoint or a released model")
    import_weights: CliSubCommand[ImportOptions] = Field(
        alias="import", description="make a released model of other people's weights"
    )
    quantize: CliSubCommand[QuantizeOptions] = Field(description="make a released model in 8 bits of one in fp32")
    experiment: CliSubCommand[ExperimentOptions] = Field(description="measure why residual networks work")
    compare: CliSubCommand[CompareOptions] = Field(description="draw the curves of several runs into one picture")

    @classmethod
    def settings_customise_sources(cls, *_: object, **__: object) -> tuple[PydanticBaseSettingsSource, ...]:
        """Options come from the command line alone: a variable such as DATA or SEED is not meant for training."""
        return ()


def main(arguments: list[str] | None = None) -> int:
    """Run the command that the arguments name; its exit code."""
    # OpenMP's threads wait for each other by spinning, on a core that another process could use: on a busy machine that
    # makes training several times slower. Read once, when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    arguments = sys.argv[1:] if arguments is None else arguments
    accept_any_text()
    accept_signals()
    try:
        check_arguments(arguments)
        return _run(get_subcommand(read_options(ResnetTrain, arguments or ["--help"], subcommands=True)))
    except (SettingsError, UsageError) as error:
        return _fail(str(error), USAGE_ERROR)
    except (TrainingError, ArtifactError, EngineError) as error:
        return _fail(str(error), FAILURE)
    except ModuleNotFoundError as error:
        return _fail(
            f"{error.name} is not installed: run `make install-dev`, or pip install 'resnet-serve[train]'", FAILURE
        )
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        return _fail(
            "there is not enough memory: take smaller images, batches or networks, or another machine", FAILURE
        )
    except OSError as error:
        return _fail(_explained(error), FAILURE)
    except KeyboardInterrupt:
        return _fail("stopped by SIGINT", INTERRUPTED)
    except Terminated:
        return _fail("stopped by SIGTERM", TERMINATED)


def _run(options: object) -> int:
    match options:
        case InfoOptions():
            from training.commands.info import print_info

            print_info(options, Console())
        case InspectOptions():
            from training.commands.inspect_folder import inspect_folder

            inspect_folder(options, Console())
        case FitOptions():
            from training.commands.fit import fit

            return fit(options, Console())
        case ExportOptions() | ImportOptions() | QuantizeOptions():
            _say(_make_model(options))
        case EvaluateOptions():
            from training.commands.evaluate import evaluate, print_evaluation

            with Stages(Console(stderr=True)) as stages:
                evaluation = evaluate(options, stages)
            print_evaluation(evaluation, Console(), as_json=options.as_json)
        case ExperimentOptions():
            from training.experiments.run_experiment import run_experiment

            _say(run_experiment(options, _say))
        case CompareOptions():
            from training.commands.compare import compare

            _say(compare(options))
    return SUCCESS


def _make_model(options: ExportOptions | ImportOptions | QuantizeOptions) -> str:
    """Run a command that makes a released model, and return its report; Terminated."""
    with _heeding_sigterm(), Stages(Console(stderr=True)) as stages:
        match options:
            case ExportOptions():
                from training.commands.export import export_checkpoint

                return export_checkpoint(options, stages).report()
            case ImportOptions():
                from training.commands.import_model import import_model

                return import_model(options, stages).report()
            case QuantizeOptions():
                from training.commands.quantize import quantize

                return quantize(options, stages).report()


@contextmanager
def _heeding_sigterm() -> Iterator[None]:
    """End by an exception within this context, so that what was begun is removed, as after Ctrl-C."""
    before = signal.getsignal(signal.SIGTERM)
    if before == signal.SIG_DFL:  # SIG_IGN, inherited from the parent process, stays
        signal.signal(signal.SIGTERM, _terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


def _is_out_of_memory(error: MemoryError | RuntimeError) -> bool:
    """Also for PyTorch's errors, which are of no class of their own where the memory is the CPU's."""
    return isinstance(error, MemoryError) or "can't allocate memory" in str(error) or "out of memory" in str(error)


def _explained(error: OSError) -> str:
    """What the system says of a file, for an error that no command expects."""
    if error.filename is None:
        return f"the system refused: {error.strerror or error}; see that disk, memory and open files suffice"
    return f"{error.filename}: {error.strerror}; give a file or folder that is there and that you may use"


def _say(text: object) -> None:
    print(text)  # noqa: T201


def _fail(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)  # noqa: T201
    return code
