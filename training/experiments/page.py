"""The Markdown page of an experiment, with its picture beside it."""

import datetime as dt
import platform
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from models.machine.cores import cpu_name, usable_cores
from training.experiments.report import Report
from training.loop.checkpoint import write_atomically
from training.plots import to_png


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The command that repeats an experiment, its seconds, and an estimate for its full form after a quick one."""

    command: str
    seconds: float
    full_time: str | None


def write_page(folder: Path, name: str, report: Report, conditions: Conditions) -> Path:
    """Write NAME.png and then NAME.md, each whole or not at all; return the page."""
    page = folder / f"{name}.md"
    write_atomically(page.with_suffix(".png"), to_png(report.picture))
    write_atomically(page, _text(name, report, conditions).encode())
    return page


def _text(name: str, report: Report, conditions: Conditions) -> str:
    seen = "\n".join(f"- {sentence}" for sentence in report.seen)
    parts = [
        f"# {report.title}",
        report.method,
        f"![{report.title}]({name}.png)",
        report.caption,
        report.table(),
        f"## Seen\n\n{seen}",
        f"## Measured\n\n```sh\n{conditions.command}\n```\n\n{_circumstances(conditions)}",
    ]
    return "\n\n".join(parts) + "\n"


def _circumstances(conditions: Conditions) -> str:
    today, threads = dt.datetime.now(tz=dt.UTC).date(), torch.get_num_threads()
    text = (
        f"{today}, in {_duration(conditions.seconds)}, on {cpu_name()}, {usable_cores()} cores, "
        f"{threads} {'thread' if threads == 1 else 'threads'}; Python {platform.python_version()}, "
        f"torch {torch.__version__}, numpy {np.__version__}. This page was written by the command, sentences included."
    )
    if conditions.full_time:
        text += f" Without `--quick`: about {conditions.full_time} on two cores, an estimate."
    return text


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.1f} min"
