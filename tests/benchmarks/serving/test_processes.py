import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.serving.processes import Session, running_session
from tests.service.served import DEADLINE_S, until

BURNT_S = 0.3
BURN = f"import time\nwhile time.process_time() < {BURNT_S}: pass"
# Burns in a child that ends, leaves an orphan behind, tells, and waits to be ended.
PROGRAM = """
import os, signal, subprocess, sys
fifo, burn = sys.argv[1:]
subprocess.run([sys.executable, "-c", burn], check=True)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if os.fork() == 0:
        signal.pause()
    os._exit(0)
os.wait()
with open(fifo, "w") as file:
    file.write("ready")
signal.pause()
"""


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    path = tmp_path / "fifo"
    os.mkfifo(path)
    return path


def test_a_session_counts_ended_children_and_orphans_and_ends_them_all(fifo: Path, tmp_path: Path):
    command = [sys.executable, "-c", PROGRAM, str(fifo), BURN]
    with running_session(command, {}, tmp_path, tmp_path / "log") as session:
        assert fifo.read_text() == "ready"
        assert session.leader in session.pids()
        assert len(session.pids()) == 2
        assert session.cpu_s() > BURNT_S
        memory = session.memory()
        assert memory.processes == 2
        assert 0 < memory.pss_mib < memory.rss_mib  # both share the interpreter
    assert session.pids() == []


def test_a_living_process_is_measured_finer_than_the_kernels_ticks(fifo: Path, tmp_path: Path):
    tell = f"{BURN}\nopen({str(fifo)!r}, 'w').write(str(time.process_time()))\nimport signal; signal.pause()"
    with running_session([sys.executable, "-c", tell], {}, tmp_path, tmp_path / "log") as session:
        told = float(fifo.read_text())
        # What it used since it told is no more than it takes to write a few bytes and to wait.
        assert told <= session.cpu_s() < told + 1 / os.sysconf("SC_CLK_TCK")


def test_a_stopped_session_takes_no_cpu_time_and_is_ended_as_any_other(tmp_path: Path):
    ending = "import signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit('ended in order'))"
    program, log = f"{ending}\nwhile True: pass", tmp_path / "log"
    with running_session([sys.executable, "-c", program], {}, tmp_path, log) as session:
        until(lambda: session.cpu_s() > BURNT_S, "a process that runs")
        session.stop()
        until(lambda: Path(f"/proc/{session.leader}/stat").read_text().split()[2] == "T", "the stop")
        used_s = session.cpu_s()
        time.sleep(BURNT_S)
        assert session.cpu_s() < used_s + BURNT_S / 2
        session.resume()
        until(lambda: session.cpu_s() > used_s + BURNT_S, "a process that runs again")
        session.stop()
    assert log.read_text().strip() == "ended in order"


# Starts a server, tells which process that is, and waits to be ended.
OWNER = """
import signal, sys, time
from pathlib import Path
from benchmarks.serving.processes import running_session
program, fifo, folder = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests may ignore them
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
with running_session([sys.executable, "-c", program, fifo], {}, Path(folder), Path(folder) / "log") as session:
    if fifo == "":
        session.stop()
    print(session.leader, flush=True)
    while True:
        time.sleep(0.05)
"""
ENDS = "import signal; signal.pause()"
# Tells of SIGTERM, and stays.
STAYS = """
import signal, sys, time
def tell(word):
    with open(sys.argv[1], "w") as file:
        file.write(word)
signal.signal(signal.SIGTERM, lambda *_: tell("heard"))
tell("ready")
while True:
    time.sleep(0.05)
"""


def heard(fifo: Path) -> str:
    """What is written to a FIFO next."""
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)

    def read() -> bytes:
        with contextlib.suppress(BlockingIOError):  # who writes has not yet
            return os.read(reader, 100)
        return b""

    try:
        return bytes(until(read, "what is written")).decode()
    finally:
        os.close(reader)


@contextlib.contextmanager
def owned(program: str, fifo: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Session]]:
    command = [sys.executable, "-c", OWNER, program, fifo, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as owner:
        assert owner.stdout
        session = Session(int(owner.stdout.readline()))
        try:
            yield owner, session
        finally:
            owner.kill()
            session.kill()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_program_that_is_ended_ends_its_servers_stopped_ones_too(number: signal.Signals, tmp_path: Path):
    with owned(ENDS, "", tmp_path) as (owner, session):
        owner.send_signal(number)
        owner.wait(DEADLINE_S)
        assert session.pids() == []


def test_a_second_interrupt_kills_what_the_first_one_waits_for(fifo: Path, tmp_path: Path):
    with owned(STAYS, str(fifo), tmp_path) as (owner, session):
        assert heard(fifo) == "ready"
        owner.send_signal(signal.SIGINT)
        assert heard(fifo) == "heard"
        owner.send_signal(signal.SIGINT)
        owner.wait(DEADLINE_S)
        assert session.pids() == []
