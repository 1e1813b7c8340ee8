"""Results as tables on a terminal."""

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.serving.goals import Goal
from benchmarks.serving.overload import Overload
from benchmarks.serving.ratios import Ratio, Spread
from benchmarks.serving.results import COMPARED, OURS, Results

DISTURBED = 0.1  # cores in use by others, from which on throughput and latency say little


def show_results(console: Console, results: Results) -> None:
    """Print everything about one workload."""
    console.print(_load_table(results))
    console.print(_unloaded_table(results))
    if results.floor():
        console.print(_floor_table(results))
    if OURS in results.servers:
        console.print(_ratio_table(results))
    for connections in results.plan.connections:
        for server in results.servers:
            if batches := results.batches(server, connections):
                console.print(f"batches of {server} at {connections} connections: {_shares(batches)}")
    _warn(console, _others_cores(results))


def show_overloads(console: Console, name: str, overloads: Sequence[Overload]) -> None:
    """Print how each server bore each load, a line for each round."""
    rates = ("x", "peak/s", "offered/s", "good/s", "of peak")
    latencies = ("admitted p50 ms", "p99 ms", "refused", "p50 ms", "late p99 ms", "sender's cores", "others' cores")
    table = _table(f"{name}: open loop", "server", "connections", *rates, *latencies, right=rates + latencies)
    ordered = sorted(overloads, key=lambda overload: (overload.connections, overload.factor, overload.server))
    for it in ordered:
        table.add_row(
            it.server,
            it.connections,
            f"{it.factor:g}",
            *(f"{rate:,.0f}" for rate in (it.peak_per_s, it.offered_per_s, it.good_per_s)),
            f"{it.of_peak:.2f}",
            *(f"{latency:,.0f}" for latency in (it.admitted_p50_ms, it.admitted_p99_ms)),
            f"{it.refused:,}",
            *(f"{figure:.1f}" for figure in (it.refused_p50_ms, it.late_p99_ms)),
            f"{it.sender_cores:.2f}",
            f"{it.others_cores:.2f}",
        )
    console.print(table)
    for it in ordered:
        statuses = ", ".join(f"{status}: {count:,}" for status, count in it.statuses.items())
        probes = "".join(
            f"; {path} p99 {probe.p99_ms:.0f} ms, {probe.failed} failed" for path, probe in it.probes.items()
        )
        console.print(f"{it.server} at {it.factor:g} x, {it.connections} connections: {statuses}{probes}")
    _warn(console, max(overload.others_cores for overload in overloads))


def show_goals(console: Console, goals: list[Goal]) -> None:
    """Print what was to be reached, and what was."""
    if not goals:
        return
    table = _table("goals", "goal", "measured", "", right=())
    for goal in goals:
        table.add_row(goal.text, goal.measured, "met" if goal.met else "[bold]not met[/bold]")
    console.print(table)


def _warn(console: Console, others_cores: float) -> None:
    if others_cores > DISTURBED:
        text = f"Others used {others_cores:.2f} cores meanwhile: of all this only the CPU time means much."
        console.print(text, style="bold")


def _load_table(results: Results) -> Table:
    title = f"{results.workload.name}: median (min–max) of {results.plan.rounds} rounds of {results.plan.turns} turns"
    figures = ("requests/s", "p50 ms", "p99 ms", "CPU s/1,000", "failed", "others' cores")
    table = _table(title, "conn.", "server", *figures, right=("conn.", *figures))
    for connections in results.plan.connections:
        for server in results.servers:
            cells = [
                _cell(results.spread(server, connections, figure), digits)
                for figure, digits in (("requests_per_s", 0), ("p50_ms", 2), ("p99_ms", 2), ("cpu_s_per_1000", 3))
            ]
            failed = f"{results.spread(server, connections, 'failed').max:.0f}"
            others = f"{results.spread(server, connections, 'others_cores').median:.2f}"
            table.add_row(str(connections), server, *cells, failed, others)
        table.add_section()
    return table


def _unloaded_table(results: Results) -> Table:
    figures = ("cold start s", "idle, % of a core", "RSS MiB", "PSS MiB")
    table = _table(f"{results.workload.name}: without load", "server", *figures, right=figures)
    for server in results.servers:
        table.add_row(server, *(_cell(spread, 2) for spread in results.unloaded(server).values()))
    return table


def _floor_table(results: Results) -> Table:
    figures = ("batch", "images/s, all cores", "CPU us an image")
    table = _table(
        f"{results.workload.name}: the floor, bare loops of preprocessing and engine", *figures, right=figures
    )
    for size, spreads in results.floor().items():
        table.add_row(str(size), _cell(spreads["images_per_s"], 1), _cell(spreads["cpu_us_per_image"], 1))
    return table


def _ratio_table(results: Results) -> Table:
    figures = ("requests/s", "p50", "p99", "CPU a request")
    title = f"{results.workload.name}: {OURS} is so many times better than (lower 90 % bound)"
    table = _table(title, "conn.", "than", *figures, right=("conn.", *figures))
    for connections in results.plan.connections:
        for peer in results.servers:
            if peer != OURS:
                cells = (_ratio_cell(results.ratio(peer, connections, figure)) for figure in COMPARED)
                table.add_row(str(connections), peer, *cells)
        if results.floor():
            table.add_row(str(connections), "floor", _ratio_cell(results.of_floor(connections)))
        table.add_section()
    return table


def _table(title: str, *columns: str, right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", no_wrap=column in right)
    return table


def _cell(spread: Spread, digits: int) -> str:
    middle, least, most = (f"{value:,.{digits}f}" for value in (spread.median, spread.min, spread.max))
    return f"{middle} ({least}–{most})"


def _ratio_cell(ratio: Ratio) -> str:
    return f"{ratio.median:.2f}" + ("" if ratio.lower is None else f" (>= {ratio.lower:.2f})")


def _shares(batches: dict[str, int]) -> str:
    total = sum(batches.values())
    return ", ".join(f"<= {bound}: {100 * count / total:.0f} %" for bound, count in batches.items())


def _others_cores(results: Results) -> float:
    loads = [(server, connections) for server in results.servers for connections in results.plan.connections]
    return max((results.spread(*load, "others_cores").median for load in loads), default=0.0)
