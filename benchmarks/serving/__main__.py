"""The benchmarks of serving, in one command: `python -m benchmarks.serving [--quick]`.

In interleaved rounds beside other servers: `mnist`, different digits through a small network as they come through a
proxy, `same`, one digit again and again, and `photo`, a photograph through ResNet-18. `processes`: the digit with other
numbers of API processes and workers. Sent faster than the server can answer: `overload`, the photograph, `large`, one
of 12 megapixels, and the digits, `rush` beside mosec over kept connections and over new ones, and `curve`.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.serving.goals import goals_of, goals_of_overloads
from benchmarks.serving.overload import KEPT, NEW, OverloadPlan, run_overloads
from benchmarks.serving.photo import large_jpeg, photo_jpeg
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Plan, run_rounds
from benchmarks.serving.servers import SERVERS, ServerSpec
from benchmarks.serving.tables import show_goals, show_overloads, show_results
from benchmarks.serving.workloads import Workload, mnist_workload, photo_workload
from benchmarks.surroundings import RESULTS, cpu_kind, serving_surroundings
from service.catalog.repository import ZOO

WIDTH = 190  # columns, where the output is no terminal
FLOOR = "floor"
SERVERS_OF = {
    "mnist": (
        "ours",
        "ours-multipart",
        "litserve",
        "litserve-nowait",
        "mosec-8",
        "mosec-8-nowait",
        "mosec-32",
        "mosec-32-nowait",
        FLOOR,
    ),
    "same": ("ours", "litserve", "mosec-8", "mosec-32"),
    "photo": ("ours", "litserve", "litserve-tuned", "mosec-8", "mosec-32", FLOOR),
    "processes": ("ours", "ours-2api", "ours-4api", "ours-1worker", "ours-4workers"),
    "overload": ("ours", "litserve-tuned", "mosec-8"),
    "large": ("ours",),
    "rush": ("ours", "mosec-8"),
    "curve": ("ours",),
}
FACTORS_OF = {
    "overload": (2.0, 3.0, 5.0),
    "large": (2.0, 3.0, 5.0),
    "rush": (1.5, 2.0),
    "curve": (0.5, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0),
}
DIGITS = ("mnist", "rush", "curve")
PICTURE_OF = {"photo": "photo", "overload": "photo", "large": "large"} | dict.fromkeys(
    DIGITS, "digits"
)  # else one digit


def main() -> None:
    """Measure what was asked for."""
    arguments = _parser().parse_args()
    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    with tempfile.TemporaryDirectory(prefix="resnet-serve-benchmark-") as folder:
        made: dict[str, Workload] = {}
        for name in arguments.job:
            picture = PICTURE_OF.get(name, "digit")
            if picture not in made:
                made[picture] = _workload(picture, arguments, Path(folder) / picture)
            measure = _overload if name in FACTORS_OF else _rounds
            contents = measure(console, name, made[picture], arguments, Path(folder))
            _save(console, name, arguments, contents)


def _rounds(
    console: Console, name: str, workload: Workload, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    names = arguments.servers or SERVERS_OF[name]
    plan = Plan(
        rounds=arguments.rounds or (2 if arguments.quick else 7),
        turns=arguments.turns or (1 if arguments.quick else 2),
        load_s=arguments.seconds or (workload.load_s // 2 if arguments.quick else workload.load_s),
        idle_s=1.0 if arguments.quick else 5.0,
        connections=arguments.connections or workload.connections,
        floor=FLOOR in names,
    )
    servers = _servers(names)
    results = Results(workload, plan, run_rounds(workload, servers, plan, folder, _teller(console)))
    goals = goals_of(results)
    show_results(console, results)
    show_goals(console, goals)
    return {**results.document(servers), "goals": [asdict(goal) for goal in goals]}


def _overload(
    console: Console, name: str, workload: Workload, arguments: argparse.Namespace, folder: Path
) -> dict[str, Any]:
    plan = OverloadPlan(
        rounds=arguments.rounds or (1 if arguments.quick else 3),
        peak_s=workload.load_s,
        load_s=arguments.seconds or (5 if arguments.quick else 15),
        factors=FACTORS_OF[name],
        peak_connections=128 if name in DIGITS else 32,
        connections=(KEPT, NEW) if name == "rush" else (KEPT,),
    )
    servers = _servers(arguments.servers or SERVERS_OF[name])
    overloads = run_overloads(workload, servers, plan, folder, _teller(console))
    goals = goals_of_overloads(overloads, 0.85 if name in DIGITS else 0.9)
    show_overloads(console, name, overloads)
    show_goals(console, goals)
    return {
        "job": name,
        "servers": {server.name: server.describe() for server in servers},
        "plan": asdict(plan),
        "overloads": [{**asdict(overload), "of_peak": overload.of_peak} for overload in overloads],
        "goals": [asdict(goal) for goal in goals],
    }


def _workload(picture: str, arguments: argparse.Namespace, folder: Path) -> Workload:
    if picture == "digits":
        return mnist_workload(arguments.model_repository, folder)
    if picture == "digit":
        return replace(mnist_workload(arguments.model_repository, folder), traffic=())
    if picture == "large":
        return photo_workload(large_jpeg(), folder)
    return photo_workload(arguments.photo.read_bytes() if arguments.photo else photo_jpeg(), folder)


def _servers(names: Sequence[str]) -> list[ServerSpec]:
    return [SERVERS[name] for name in names if name != FLOOR]


def _teller(console: Console) -> Callable[[str], None]:
    began = time.perf_counter()
    return lambda line: console.print(f"{time.perf_counter() - began:6.0f} s  {line}", highlight=False)


def _save(console: Console, name: str, arguments: argparse.Namespace, contents: dict[str, Any]) -> None:
    folder = arguments.output or (None if arguments.quick else RESULTS)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"serving-{name}-{cpu_kind()}.json"
        path.write_text(json.dumps({**serving_surroundings("benchmarks.serving"), **contents}, indent=1) + "\n")
        console.print(f"written: {path}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving", description=__doc__)
    add = parser.add_argument
    known = [*SERVERS, FLOOR]
    add("--quick", action="store_true", help="a short look: 2 rounds, half as long; nothing is written")
    add("--job", type=_list_of(SERVERS_OF), default=list(SERVERS_OF), help=f"default: {','.join(SERVERS_OF)}")
    add("--servers", type=_list_of(known), help=f"default: those of the job; there are {', '.join(known)}")
    add("--connections", type=lambda text: tuple(map(int, text.split(","))), help="default: those of the job")
    add("--rounds", type=int)
    add("--turns", type=int, help="of each server in a round, beside others; default: 2")
    add("--seconds", type=int, help="of load, for each server and number of connections or factor")
    add("--model-repository", type=Path, default=ZOO, help="holds mnist-residual; default: the models that ship")
    add("--photo", type=Path, help="a JPEG to use instead of the made one")
    add("--output", type=Path, help="folder for the results; default: benchmarks/results, with --quick nowhere")
    return parser


def _list_of(known: Sequence[str] | dict[str, Any]) -> Callable[[str], list[str]]:
    def parse(text: str) -> list[str]:
        names = text.split(",")
        if unknown := [name for name in names if name not in known]:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
        return names

    return parse


if __name__ == "__main__":
    main()
