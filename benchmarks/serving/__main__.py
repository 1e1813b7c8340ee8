"""The benchmarks of serving, in one command: `python -m benchmarks.serving [--quick]`."""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from benchmarks.serving.jobs import Job, mnist_job
from benchmarks.serving.report import Results, document, save, show
from benchmarks.serving.rounds import Plan, Visit, run_rounds
from benchmarks.serving.servers import ROOT, SERVERS, Server
from service.repository import ZOO

RESULTS = ROOT / "benchmarks" / "results"
FULL = Plan(rounds=7, load_s=5, idle_s=5.0, connections=())
QUICK = Plan(rounds=2, load_s=2, idle_s=1.0, connections=())
FILE_WIDTH = 140  # columns, where the output is no terminal
DEFAULT_SERVERS = "ours,litserve,mosec-8,mosec-32"


def _names(text: str) -> list[Server]:
    unknown = [name for name in text.split(",") if name not in SERVERS]
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown {', '.join(unknown)}; there are: {', '.join(SERVERS)}")
    return [SERVERS[name] for name in text.split(",")]


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short look: 2 rounds of 2 s; nothing is written")
    parser.add_argument("--job", choices=("mnist",), default="mnist")
    parser.add_argument("--servers", type=_names, default=_names(DEFAULT_SERVERS), help=", ".join(SERVERS))
    parser.add_argument("--connections", type=_numbers, help="default: those of the job")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=int, help="of load, for each server and number of connections")
    parser.add_argument("--model-repository", type=Path, default=ZOO)
    parser.add_argument("--output", type=Path, help="results file; default: benchmarks/results/serving-JOB.json")
    return parser


def main() -> None:
    arguments = _parser().parse_args()
    job = mnist_job(arguments.model_repository)
    default = QUICK if arguments.quick else FULL
    plan = Plan(
        arguments.rounds or default.rounds,
        arguments.seconds or default.load_s,
        default.idle_s,
        arguments.connections or job.connections,
    )
    console = Console(width=None if sys.stdout.isatty() else FILE_WIDTH)
    results = _measure(console, job, arguments.servers, plan)
    show(console, results)
    output = arguments.output or (None if arguments.quick else RESULTS / f"serving-{job.name}.json")
    if output:
        save(output, document(results, arguments.servers))
        console.print(f"written: {output}")


def _measure(console: Console, job: Job, servers: Sequence[Server], plan: Plan) -> Results:
    began = time.perf_counter()

    def tell(visit: Visit) -> None:
        rates = ", ".join(f"{sample.connections}: {sample.load.per_second:,.0f}/s" for sample in visit.samples)
        console.print(f"{time.perf_counter() - began:6.0f} s  round {visit.round + 1}  {visit.server:<16}{rates}")

    return Results(job, plan, run_rounds(job, servers, plan, tell))


if __name__ == "__main__":
    main()
