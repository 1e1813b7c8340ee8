import io

from rich.console import Console

from benchmarks.serving.goals import Goal
from benchmarks.serving.overload import NEW
from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Measured, Plan
from benchmarks.serving.tables import show_goals, show_overloads, show_results
from benchmarks.serving.workloads import Workload
from tests.benchmarks.serving.measured import CONNECTIONS, overload, visit


def console() -> Console:
    return Console(file=io.StringIO(), width=180)


def rows(console: Console, *, first: str) -> list[list[str]]:
    """Cells of the printed lines that have this in the first column."""
    assert isinstance(console.file, io.StringIO)
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in console.file.getvalue().splitlines()]
    return [cells for cells in lines if cells and cells[0] == first]


def test_a_load_is_told_with_its_spread_and_the_ratio_to_each_peer(workload: Workload):
    screen = console()
    visits = [visit(server, n, rate) for server, rate in (("ours", 800), ("litserve", 200)) for n in range(2)]
    visits[1] = visit("ours", 1, 1200, p50_ms=3.0)
    plan = Plan(2, turns=1, load_s=1, idle_s=1.0, connections=(CONNECTIONS,), floor=False)
    show_results(screen, Results(workload, plan, Measured(visits, [], [])))
    ours, theirs, ratio = rows(screen, first="32")
    assert ours[1:4] == ["ours", "1,000 (800–1,200)", "2.00 (1.00–3.00)"]
    assert theirs[1:3] == ["litserve", "200 (200–200)"]
    assert ratio[1:4] == ["litserve", "5.00", "0.67"]  # medians of 4 and 6, and of 1 and 1/3


def test_an_overload_is_a_line_a_round():
    screen = console()
    show_overloads(screen, "curve", [overload(1, 500.0, connections=NEW), overload(0, 950.0, factor=5.0)])
    first, second = rows(screen, first="ours")
    assert first[1:7] == ["kept", "5", "1,000", "5,000", "950", "0.95"]
    assert second[1:7] == ["new", "2", "1,000", "2,000", "500", "0.50"]


def test_a_goal_that_is_missed_says_so():
    screen = console()
    show_goals(screen, [Goal("fast", "1.00", True), Goal("faster", "0.50", False)])
    assert rows(screen, first="fast")[0][1:] == ["1.00", "met"]
    assert rows(screen, first="faster")[0][1:] == ["0.50", "not met"]
