import subprocess
import sys


def told(*arguments: str) -> str:
    """What the command says of arguments that it does not take."""
    command = [sys.executable, "-m", "benchmarks.serving", *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    return ended.stderr.splitlines()[-1]


def test_an_unknown_job_or_server_is_told_with_those_there_are():
    assert "--job: unknown: zebra; there are mnist, same, photo, processes, overload, large, rush, curve" in told(
        "--job", "mnist,zebra"
    )
    assert "--servers: unknown: nginx; there are ours," in told("--servers", "nginx")
