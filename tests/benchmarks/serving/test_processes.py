import os
import sys
import time
from pathlib import Path

import pytest

from benchmarks.serving.processes import running_session

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
        while session.cpu_s() < BURNT_S:
            pass
        session.stop()
        while Path(f"/proc/{session.leader}/stat").read_text().split()[2] != "T":
            pass
        used_s = session.cpu_s()
        time.sleep(BURNT_S)
        assert session.cpu_s() == used_s
        session.resume()
        while session.cpu_s() == used_s:
            pass
        session.stop()
    assert log.read_text().strip() == "ended in order"
