"""What was measured: tables for the terminal, and a document for the results folder."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.serving.jobs import Job
from benchmarks.serving.ratios import METHOD, Ratio, Spread
from benchmarks.serving.rounds import Plan, Sample, Visit
from benchmarks.serving.servers import ROOT, Server

OURS = "ours"
MORE_IS_BETTER = ("requests_per_s",)
COMPARED = ("requests_per_s", "p50_ms", "p99_ms", "cpu_s_per_1000")
_PACKAGES = ("resnet-serve", "litserve", "mosec", "onnxruntime", "pillow", "numpy", "uvicorn", "uvloop", "httptools")


class Results:
    """The visits of one job, by server and number of connections."""

    def __init__(self, job: Job, plan: Plan, visits: Sequence[Visit]) -> None:
        self.job, self.plan, self.visits = job, plan, visits
        self.servers = list(dict.fromkeys(visit.server for visit in visits))

    def samples(self, server: str, connections: int) -> list[Sample]:
        """One for each round."""
        return [
            sample
            for visit in self.visits
            for sample in visit.samples
            if visit.server == server and sample.connections == connections
        ]

    def spread(self, server: str, connections: int, figure: str) -> Spread:
        """A figure over the rounds."""
        return Spread.of([sample.figures()[figure] for sample in self.samples(server, connections)])

    def ratio(self, peer: str, connections: int, figure: str, server: str = OURS) -> Ratio:
        """How many times better `server` is than `peer`."""
        ours = [sample.figures()[figure] for sample in self.samples(server, connections)]
        theirs = [sample.figures()[figure] for sample in self.samples(peer, connections)]
        pairs = zip(ours, theirs, strict=True) if figure in MORE_IS_BETTER else zip(theirs, ours, strict=True)
        return Ratio.of(list(pairs))

    def unloaded(self, server: str) -> dict[str, Spread]:
        """Start, idling and memory over the rounds."""
        visits = [visit for visit in self.visits if visit.server == server]
        figures: dict[str, Callable[[Visit], float]] = {
            "cold_start_s": lambda visit: visit.cold_start_s,
            "idle_percent_of_a_core": lambda visit: 100 * visit.idle_cores,
            "rss_mib": lambda visit: visit.memory.rss_mib,
            "pss_mib": lambda visit: visit.memory.pss_mib,
        }
        return {name: Spread.of([figure(visit) for visit in visits]) for name, figure in figures.items()}

    def batches(self, server: str, connections: int) -> dict[str, int]:
        """Batches by size bucket, over all rounds."""
        total: dict[str, int] = {}
        for sample in self.samples(server, connections):
            for bound, count in (sample.batches or {}).items():
                total[bound] = total.get(bound, 0) + count
        return {bound: count for bound, count in total.items() if count}


def show(console: Console, results: Results) -> None:
    """Print every table."""
    console.print(_load_table(results))
    console.print(_unloaded_table(results))
    if OURS in results.servers and len(results.servers) > 1:
        console.print(_ratio_table(results))
    for connections in results.plan.connections:
        for server in results.servers:
            if batches := results.batches(server, connections):
                console.print(f"batches of {server} at {connections} connections: {_shares(batches)}")


def _load_table(results: Results) -> Table:
    table = Table(title=f"{results.job.name}: median (min to max) of {results.plan.rounds} rounds")
    columns = ("connections", "server", "requests/s", "p50 ms", "p99 ms", "CPU s/1,000", "failed", "others' cores")
    for column in columns:
        table.add_column(column, justify="left" if column == "server" else "right", no_wrap=True)
    for connections in results.plan.connections:
        for server in results.servers:
            cells = [
                _cell(results.spread(server, connections, figure), digits)
                for figure, digits in (("requests_per_s", 0), ("p50_ms", 2), ("p99_ms", 2), ("cpu_s_per_1000", 3))
            ]
            failed = results.spread(server, connections, "failed")
            others = results.spread(server, connections, "others_cores")
            table.add_row(str(connections), server, *cells, f"{failed.max:.0f}", _cell(others, 2))
        table.add_section()
    return table


def _unloaded_table(results: Results) -> Table:
    table = Table(title=f"{results.job.name}: without load")
    for column in ("server", "cold start s", "idle, % of a core", "RSS MiB", "PSS MiB"):
        table.add_column(column, justify="left" if column == "server" else "right")
    for server in results.servers:
        spreads = results.unloaded(server).values()
        table.add_row(server, *(_cell(spread, 2) for spread in spreads))
    return table


def _ratio_table(results: Results) -> Table:
    table = Table(title=f"{results.job.name}: {OURS} is so many times better than (lower 90 % bound)")
    table.add_column("connections", justify="right")
    table.add_column("than")
    for column in ("requests/s", "p50", "p99", "CPU a request"):
        table.add_column(column, justify="right")
    for connections in results.plan.connections:
        for peer in results.servers:
            if peer != OURS:
                ratios = (results.ratio(peer, connections, figure) for figure in COMPARED)
                table.add_row(str(connections), peer, *map(_ratio_cell, ratios))
        table.add_section()
    return table


def _cell(spread: Spread, digits: int) -> str:
    middle, least, most = (f"{value:,.{digits}f}" for value in (spread.median, spread.min, spread.max))
    return f"{middle} ({least}–{most})"


def _ratio_cell(ratio: Ratio) -> str:
    return f"{ratio.median:.2f}" + ("" if ratio.lower is None else f" (>= {ratio.lower:.2f})")


def _shares(batches: dict[str, int]) -> str:
    total = sum(batches.values())
    return ", ".join(f"<= {bound}: {100 * count / total:.0f} %" for bound, count in batches.items())


def document(results: Results, servers: Iterable[Server]) -> dict[str, Any]:
    """All that was measured, and on what."""
    table = [
        {
            "server": server,
            "connections": connections,
            **{figure: asdict(results.spread(server, connections, figure)) for figure in (*COMPARED, "others_cores")},
            "failed": sum(sample.load.failed for sample in results.samples(server, connections)),
            "batches": results.batches(server, connections) or None,
        }
        for server in results.servers
        for connections in results.plan.connections
    ]
    ratios = [
        {"peer": peer, "connections": connections, "figure": figure, **asdict(results.ratio(peer, connections, figure))}
        for peer in results.servers
        if OURS in results.servers and peer != OURS
        for connections in results.plan.connections
        for figure in COMPARED
    ]
    unloaded = {
        server: {name: asdict(spread) for name, spread in results.unloaded(server).items()}
        for server in results.servers
    }
    return {
        **surroundings(),
        "job": {
            "name": results.job.name,
            "image_bytes": len(results.job.image),
            "model": results.job.artifact.name,
            "model_sha256": results.job.artifact.sha256,
        },
        "servers": {
            server.name: [server.module, *server.arguments, *map("=".join, server.environment)] for server in servers
        },
        "plan": asdict(results.plan),
        "loaded": table,
        "unloaded": unloaded,
        "ratios": {"method": METHOD, "better": ratios},
        "visits": [visit.to_dict() for visit in results.visits],
    }


def surroundings() -> dict[str, Any]:
    """The command, the machine and the versions."""
    return {
        "command": " ".join(["python -m benchmarks.serving", *sys.argv[1:]]),
        "when": datetime.now(UTC).isoformat(timespec="seconds"),
        "revision": _output("git", "describe", "--always", "--dirty"),
        "hardware": {
            "cpu": _cpu_model(),
            "cores": len(os.sched_getaffinity(0)),
            "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
            "kernel": platform.release(),
            "note": "the load generator runs on the same cores",
        },
        "versions": {
            "python": platform.python_version(),
            **{package: version(package) for package in _PACKAGES},
            "wrk": _output("wrk", "-v").split("[")[0].strip(),
        },
    }


def save(path: Path, contents: dict[str, Any]) -> None:
    """Write a results file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(contents, indent=1) + "\n")


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip()


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
