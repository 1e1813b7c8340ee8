"""`resnet-train` in this process, as a shell would see it."""

import io
import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from training.cli import main


class Ended(NamedTuple):
    """A command's exit code, and what it printed on both streams."""

    code: int
    output: str
    errors: str


def resnet_train(*words: str | Path | int) -> Ended:
    """Run the command with these words on a terminal of 80 columns."""
    output, errors = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with redirect_stdout(output), redirect_stderr(errors), mock.patch.dict(os.environ, COLUMNS="80"):
        try:
            code = main([str(word) for word in words])
        except SystemExit as ended:  # of --help, and of usage errors that argparse finds
            code = int(ended.code or 0)
    return Ended(code, *(_text(stream) for stream in (output, errors)))


def _text(stream: io.TextIOWrapper) -> str:
    """What was written, as a terminal gets it: in its encoding."""
    stream.seek(0)
    return stream.read()
