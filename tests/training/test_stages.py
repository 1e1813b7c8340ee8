"""What a command tells while it works."""

import io

from rich.console import Console

from training.stages import Stages


def test_on_a_terminal_each_stage_has_a_bar_that_ends_full():
    console = Console(file=io.StringIO(), width=100, force_terminal=True)
    with Stages(console) as stages:
        stages.begin("exporting the graph")
        batches = [[1, 2], [3, 4], [5]]
        assert list(stages.track(batches, "measuring", 6, len)) == batches  # one could not be read
        stages.begin("measuring speeds")
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    for part in ("exporting the graph", "measuring ", "6/6", "measuring speeds", "1/1"):
        assert part in shown


def test_elsewhere_each_stage_is_a_line():
    console = Console(file=io.StringIO(), width=20)
    with Stages(console) as stages:
        stages.begin("[exporting] the graph of a network")
        assert list(stages.track(range(3), "measuring", 3)) == [0, 1, 2]
    assert console.file.getvalue() == "[exporting] the graph of a network\nmeasuring\n"  # type: ignore[attr-defined]


def test_without_a_console_nothing_is_told(capsys):
    with Stages() as stages:
        stages.begin("exporting")
    assert capsys.readouterr() == ("", "")
