"""`resnet-serve` as a shell runs it: what it says of its options, and of those that it does not know."""

import subprocess
import sys
from pathlib import Path

from service.config.settings import Settings
from tests.service.served import DEADLINE_S, environment, run_command


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return run_command(*arguments, COLUMNS="200", **variables)


def test_help_explains_every_setting() -> None:
    answer = run("--help")
    assert (answer.returncode, answer.stderr) == (0, "")
    words = " ".join(answer.stdout.split())
    for name, field in Settings.model_fields.items():
        assert f"--{name.replace('_', '-')} " in words
        assert field.description
        assert " ".join(field.description.split()) in words


def test_the_command_is_the_module() -> None:
    command = [Path(sys.executable).parent / "resnet-serve", "serve", "--help"]
    variables = environment(COLUMNS="200", PYTHONPATH=str(Path(__file__).resolve().parents[2]))
    told = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    assert told.stdout == run("--help").stdout


def test_a_value_that_does_not_fit_is_explained_by_flag_and_variable() -> None:
    for answer in (run("--workers", "-1"), run(RESNET_SERVE_WORKERS="-1")):
        assert (answer.returncode, answer.stdout) == (2, "")
        assert "--workers" in answer.stderr
        assert "RESNET_SERVE_WORKERS" in answer.stderr
        assert "-1" in answer.stderr
        assert "Traceback" not in answer.stderr


def test_a_misspelt_setting_is_an_error() -> None:
    flag, variable = run("--max-batch-sise", "3"), run(RESNET_SERVE_MAX_BATCH_SISE="3")
    assert flag.returncode == variable.returncode == 2
    assert "--max-batch-sise" in flag.stderr
    assert "RESNET_SERVE_MAX_BATCH_SISE" in variable.stderr
    assert "RESNET_SERVE_MAX_BATCH_SIZE" in variable.stderr  # among those that there are


FAULTY = """
import sys
from service.cli import main
from service.commands import serve
from service.ipc.reports import WorkerReport
serve.serve = lambda settings: WorkerReport.from_line(b"{}")
sys.exit(main())
"""


def test_a_document_inside_the_server_that_is_not_valid_is_no_error_of_usage() -> None:
    command = [sys.executable, "-c", FAULTY]
    told = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert told.returncode == 1
    assert "ValidationError: 2 validation errors for WorkerReport" in told.stderr
