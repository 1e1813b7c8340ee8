"""`resnet-train` as a shell sees it: help, usage errors, and where options come from."""

import subprocess
import sys

import pytest
from pydantic import BaseModel, ValidationError
from pydantic_settings import CliApp, get_subcommand

from tests.training.command import resnet_train
from training import options
from training.cli import ResnetTrain

IMPORT = ("import", "--name", "theirs", "--repository", "models")
COMMANDS = ("info", "inspect", "fit", "export", "evaluate", "import", "quantize", "experiment", "compare")


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_without_a_command_it_tells_which_there_are(words):
    ended = resnet_train(*words)
    assert (ended.code, ended.errors) == (0, "")
    assert all(f"\n    {command} " in ended.output for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_tells_what_it_does_and_describes_every_option(command):
    ended = resnet_train(command, "--help")
    assert (ended.code, ended.errors) == (0, "")
    (field,) = (each for name, each in ResnetTrain.model_fields.items() if command in (name, each.alias))
    (model,) = (each for each in field.annotation.__args__ if issubclass(each, BaseModel))
    assert model.__doc__.partition("\n")[0] in ended.output
    for name, option in model.model_fields.items():
        assert option.description, name
        flag = (option.alias or name).replace("_", "-")
        is_positional = name == next(iter(model.model_fields))
        assert (f"\n  {flag.upper()} " if is_positional else f"\n  --{flag}") in ended.output


LIGHT = """
import sys
from training.cli import main
try:
    main(sys.argv[1:])
except SystemExit:
    pass
print([name for name in ("torch", "onnx", "onnxruntime", "matplotlib", "torchvision") if name in sys.modules])
"""


FAULTY = """
import sys
from training.cli import main
from training.commands import info
from training.options import InfoOptions
info.print_info = lambda options, console: InfoOptions.model_validate({})
sys.exit(main(["info", "resnet20"]))
"""


def test_a_document_inside_a_command_that_is_not_valid_is_no_error_of_usage():
    ended = subprocess.run([sys.executable, "-c", FAULTY], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert "ValidationError: 1 validation error for InfoOptions" in ended.stderr


@pytest.mark.parametrize("words", [["--help"], ["fit", "--help"], ["fit"], ["fit", "mnist-residual", "--epochs", "0"]])
def test_help_and_usage_errors_import_nothing_heavy(words):
    command = [sys.executable, "-c", LIGHT, *words]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["fit"], "the following arguments are required: RECIPE"),
        (
            ["fit", "mnist-residual", "--epochs", "0"],
            "error: --epochs = '0': Input should be greater than or equal to 1",
        ),
        (
            ["fit", "mnist-residual", "--device", "tpu"],
            "error: --device = 'tpu': Input should be 'auto', 'cpu' or 'cuda'",
        ),
        (["fit", "mnist-residual", "--seed", "x"], "error: --seed = 'x': Input should be a valid integer"),
        (["fit", "mnist-residual", "--lr", "inf"], "error: --lr = 'inf': Input should be a finite number"),
        (["fit", "mnist-residual", "--batch-size", "0"], "error: --batch-size = '0': Input should be greater than or"),
        (["fit", "mnist-residual", "--bogus"], "unrecognized arguments: --bogus"),
        (["fit", "x", "--from", "y", "--arch-arg", "a=b"], "error: with --from the network is the one"),
        (["evaluate", "x", "--split", "train"], "error: --split = 'train': Input should be 'val' or 'test'"),
        (["export", "best.pt", "--name", "x"], "error: --repository: Field required"),
        (["compare"], "the following arguments are required: RUN"),
        (["compare", "run", "--output", "some.jpg"], "--output = 'some.jpg': the picture is a PNG: name it some.png"),
        (["inspect", "photos", "--output", "some.svg"], "--output = 'some.svg': the picture is a PNG: name it"),
        ([*IMPORT, "a.pth", "--channel-order", "bgr"], "error: --channel-order tells of an ONNX file, and"),
        ([*IMPORT, "a.pth", "--layout", "nhwc"], "error: --layout tells of an ONNX file, and a.pth is none"),
        ([*IMPORT, "a.onnx", "--prefix", "ema"], "error: --prefix tells of weights, and a.onnx is an ONNX file"),
        (["serve"], "invalid choice: 'serve'"),
        (["info", "resnet5"], "error: unknown network 'resnet5', did you mean 'resnet56'"),
    ],
)
def test_usage_errors_name_the_flag_and_exit_2(words, told):
    ended = resnet_train(*words)
    assert (ended.code, ended.output) == (2, "")
    assert told in ended.errors.splitlines()[-1]


def test_the_environment_sets_no_option(monkeypatch):
    """Many machines have a DATA, SEED or NAME; none of them is meant for training."""
    for name, value in {
        "CLASSES": "0",
        "INFO": '{"name": "resnet5"}',
        "NAME": "resnet5",
        "ARCH_ARG": '["a=b"]',
    }.items():
        monkeypatch.setenv(name, value)
        monkeypatch.setenv(name.lower(), value)
    ended = resnet_train("info", "mnist-residual")
    assert (ended.code, ended.errors) == (0, "")
    assert "41,514" in ended.output


def test_flags_are_those_of_the_fields_and_their_aliases():
    given = options.FitOptions(recipe="r", start="best.pt", arch_arg=[], sync_bn=True)
    assert given == options.FitOptions.model_validate({"recipe": "r", "from": "best.pt", "sync_bn": True})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        options.FitOptions(recipe="r", learning_rate=0.1)


def test_expected_labels_may_have_commas():
    words = ["import", "a.pth", "--name", "a", "--repository", "r", "--expect", "x.jpg=tench, Tinca", "--expect", "y=3"]
    given = get_subcommand(CliApp.run(ResnetTrain, cli_args=words))
    assert isinstance(given, options.ImportOptions)
    assert given.expect == ["x.jpg=tench, Tinca", "y=3"]


def test_an_argument_of_the_network_can_be_repeated():
    ended = resnet_train("info", "resnet20", "--arch-arg", "shortcut=B", "--arch-arg", "width=32")
    assert "argument 'width'" in ended.errors


def test_python_m_training_is_the_command_and_hands_on_its_exit_code():
    command = [sys.executable, "-m", "training", "info"]
    done = subprocess.run([*command, "mnist-residual"], capture_output=True, text=True, check=True)
    assert "41,514" in done.stdout
    wrong = subprocess.run([*command, "resnet5"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")


INTERRUPTED = """
import os, signal, sys
from training.__main__ import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # it is ignored by what a shell runs behind it

class Interrupting:
    def find_spec(self, name, *_):
        if name == "pydantic":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupting())
sys.exit(main())
"""


def test_ctrl_c_while_the_command_is_loaded_is_told_in_a_line():
    command = [sys.executable, "-c", INTERRUPTED, "info", "mnist-residual"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "error: stopped by SIGINT\n")


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
from training.cli import main
sys.exit(main(["info", "resnet18"]))
"""


def test_where_only_serving_is_installed_it_tells_how_to_install_the_rest():
    ended = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert (
        ended.stderr == "error: torch is not installed: run `make install-dev`, or pip install 'resnet-serve[train]'\n"
    )
