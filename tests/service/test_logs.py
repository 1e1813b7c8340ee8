"""What a process writes to standard error, ours and its libraries' alike."""

import json
import subprocess
import sys

import pytest

CODE = """
import logging, sys
import structlog
from service.logs import configure_logs
log = structlog.get_logger()
configure_logs(*sys.argv[1:])
log.info("said", n=1)
logging.getLogger("uvicorn.error").info("what uvicorn says of its start")
logging.getLogger("library").warning("of another %s", "make")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def written(log_format: str, level: str) -> str:
    """Standard error, which is no terminal."""
    command = [sys.executable, "-c", CODE, log_format, level]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_machines_read_a_document_a_line(log_format: str) -> None:
    records = list(map(json.loads, written(log_format, "info").splitlines()))
    assert [(record["event"], record["level"]) for record in records] == [
        ("said", "info"),
        ("of another make", "warning"),
        ("failed", "error"),
    ]
    assert records[0]["n"] == 1
    assert all(record["timestamp"].endswith("Z") for record in records)
    assert "ZeroDivisionError: division by zero" in records[2]["exception"]


def test_people_read_words() -> None:
    text = written("console", "info")
    assert "said" in text
    assert "of another make" in text
    assert "\nZeroDivisionError: division by zero" in text
    assert not text.startswith("{")


def test_what_is_below_the_level_is_not_written() -> None:
    (record,) = map(json.loads, written("json", "error").splitlines())
    assert record["event"] == "failed"
