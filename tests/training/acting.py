"""The real command, which does something to itself after a certain step: no test has to be quick enough to meet it."""

from pathlib import Path

_SCRIPT = """
import os, resource, signal, sys
from training.cli import main
from training.loop import terminal

EPOCH, STEP, ACT = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]

class Acting(terminal.ProgressBar):
    def step_done(self, progress, /):
        super().step_done(progress)
        if (progress.epoch, progress.step) == (EPOCH, STEP) and os.environ.get("RANK", "0") == "0":
            exec(ACT)

terminal.ProgressBar = Acting
sys.exit(main(sys.argv[4:]))
"""

KILL = "os.kill(os.getpid(), signal.SIGKILL)"


def acting(folder: Path, epoch: int, step: int, act: str) -> list[str]:
    """Return what to write after `python` or `torchrun` and before the command's own words.

    After so many whole epochs and steps the process, the first one if there are several, runs the statement `act`.
    """
    (script := folder / "acting.py").write_text(_SCRIPT)
    return [str(script), str(epoch), str(step), act]
