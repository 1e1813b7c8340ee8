"""Closed-loop load with wrk: as many connections as asked for, each sending its next request once answered."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.workloads import Upload

TIMEOUT_S = 20

# Nothing is called per request or per answer: wrk then sends the same bytes again and again.
_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = os.getenv("WRK_CONTENT_TYPE")
local file = io.open(os.getenv("WRK_BODY"), "rb")
wrk.body = file:read("*all")
file:close()

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

    @property
    def per_second(self) -> float:
        """Good answers a second."""
        return max(0, self.requests - self.failed) / self.seconds


def drive(url: str, request: Upload, connections: int, seconds: int, folder: Path) -> WrkResult:
    """Send `request` to `url` over this many connections from one thread; `folder` takes wrk's script and the body."""
    script, body = folder / "post.lua", folder / "body"
    script.write_text(_SCRIPT)
    body.write_bytes(request.body)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", f"--timeout={TIMEOUT_S}s", f"-s{script}", url]
    environment = os.environ | {"WRK_BODY": str(body), "WRK_CONTENT_TYPE": request.content_type}
    output = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    told = json.loads(output.strip().splitlines()[-1])
    return WrkResult(
        requests=told["requests"],
        seconds=told["us"] / 1e6,
        p50_ms=told["p50_us"] / 1e3,
        p90_ms=told["p90_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        max_ms=told["max_us"] / 1e3,
        failed=sum(told[error] for error in ("non_2xx", "connect", "read", "write", "timeout")),
    )
