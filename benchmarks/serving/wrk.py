"""Closed-loop load with wrk: as many connections as asked for, each sending its next request once answered."""

import json
import os
import resource
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.workloads import Upload

TIMEOUT_S = 20

# Nothing is called per request or per answer: wrk then sends the same bytes again and again.
_SAME = """
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("WRK_CONTENT_TYPE")
local file = io.open(os.getenv("WRK_BODY"), "rb")
wrk.body = file:read("*all")
file:close()
"""

_PAUSE = """
function delay()
    return %d
end
"""

# The messages are made beforehand: for a request one is taken from a table.
_IN_TURN = """
local messages, last = {}, 0

function init(arguments)
    local file = io.open(os.getenv("WRK_MESSAGES"), "rb")
    local length = file:read("*n", "*l")
    while length do
        messages[#messages + 1] = file:read(length)
        length = file:read("*n", "*l")
    end
    file:close()
end

function request()
    last = last % #messages + 1
    return messages[last]
end
"""

_DONE = """
function done(summary, latency, requests)
    local e = summary.errors
    io.write(string.format(
        '\\n{"requests": %d, "us": %d, "p50_us": %d, "p90_us": %d, "p99_us": %d, "max_us": %d, "non_2xx": %d, ' ..
        '"connect": %d, "read": %d, "write": %d, "timeout": %d}\\n',
        summary.requests, summary.duration, latency:percentile(50), latency:percentile(90), latency:percentile(99),
        latency.max, e.status, e.connect, e.read, e.write, e.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class WrkResult:
    """What wrk saw; `failed` are answers of 400 and above, broken connections and timeouts."""

    requests: int
    seconds: float
    p50_ms: float
    p90_ms: float
    p99_ms: float
    max_ms: float
    failed: int
    cpu_s: float
    """CPU time that wrk itself took."""

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return max(0, self.requests - self.failed) / self.seconds


def drive(url: str, request: Upload, connections: int, seconds: int, folder: Path) -> WrkResult:
    """Send `request` to `url` over this many connections from one thread; `folder` takes wrk's script and the body.

    OSError with what wrk says if it could not, as to a server that is gone.
    """
    body = folder / "body"
    body.write_bytes(request.body)
    variables = {"WRK_BODY": str(body), "WRK_CONTENT_TYPE": request.content_type}
    return _run(_SAME, variables, url, connections, seconds, folder)


def replay(
    url: str, messages: Sequence[bytes], connections: int, seconds: int, folder: Path, *, pause_ms: int = 0
) -> WrkResult:
    """The same with whole HTTP messages, one after the other; what `url` has behind the port is not used.

    Each connection waits `pause_ms` before each request.
    """
    file = folder / "messages"
    file.write_bytes(b"".join(b"%d\n%b\n" % (len(message), message) for message in messages))
    script = _IN_TURN + _PAUSE % pause_ms if pause_ms else _IN_TURN
    return _run(script, {"WRK_MESSAGES": str(file)}, url, connections, seconds, folder)


def _run(script: str, variables: dict[str, str], url: str, connections: int, seconds: int, folder: Path) -> WrkResult:
    path = folder / "post.lua"
    path.write_text(script + _DONE)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s", f"-s{path}", url]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    ended = subprocess.run(command, env=os.environ | variables, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if ended.returncode:
        raise OSError(f"wrk: {ended.stderr.strip()}")
    told = json.loads(ended.stdout.strip().splitlines()[-1])
    return WrkResult(
        requests=told["requests"],
        seconds=told["us"] / 1e6,
        p50_ms=told["p50_us"] / 1e3,
        p90_ms=told["p90_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        max_ms=told["max_us"] / 1e3,
        failed=sum(told[error] for error in ("non_2xx", "connect", "read", "write", "timeout")),
        cpu_s=after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
    )
