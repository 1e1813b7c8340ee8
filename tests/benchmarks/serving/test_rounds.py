"""Every server of the benchmarks does the same job; without this the peers would rot unseen."""

import io
import re
import shutil
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from benchmarks.serving.results import Results
from benchmarks.serving.rounds import Plan, run_rounds
from benchmarks.serving.servers import SERVERS, ServerError, ServerSpec
from benchmarks.serving.tables import show_results
from benchmarks.serving.workloads import Workload, raw
from models.artifact.artifact import Artifact
from tests.models.images.pictures import encode

NAMES = ("ours", "litserve", "mosec-8")


def grey_png() -> bytes:
    return encode(Image.new("L", (28, 28), 40))


def digit_workload(network: Artifact, networks: Path, folder: Path) -> Workload:
    name, version = network.name, str(network.version)
    alone = folder / "repository"
    shutil.copytree(networks / name / version, alone / name / version)
    return Workload("test", grey_png(), "image/png", alone, network, top_k=3, connections=(2,), load_s=1)


@pytest.mark.slow
def test_one_round_of_every_server(digit_network: Artifact, networks: Path, tmp_path: Path, require):
    require("wrk")
    pytest.importorskip("mosec", reason="mosec is not installed; the extra [bench] brings it")
    workload = digit_workload(digit_network, networks, tmp_path)
    plan = Plan(rounds=1, turns=2, load_s=1, idle_s=0.0, connections=(2,), floor=True)
    lines: list[str] = []

    results = Results(workload, plan, run_rounds(workload, [SERVERS[it] for it in NAMES], plan, tmp_path, lines.append))

    visits = [line.split()[2] for line in lines if "again:" not in line]  # a round that other work disturbs is repeated
    assert visits[-5:] == [*NAMES, "floor", "floor"]
    for server in NAMES:
        assert len(results.samples(server, 2)) == plan.turns
        assert results.spread(server, 2, "requests_per_s").min > 0
        assert results.spread(server, 2, "failed").max == 0
        assert results.spread(server, 2, "cpu_s_per_1000").min > 0
        assert results.unloaded(server)["pss_mib"].min > 0
    assert sum(results.batches("ours", 2).values()) > 0
    assert all(spreads["images_per_s"].min > 0 for spreads in results.floor().values())
    document = results.document([SERVERS[it] for it in NAMES])
    assert {row["server"] for row in document["loaded"]} == set(NAMES)
    assert {row["peer"] for row in document["ratios"]["times_better"]} == {"litserve", "mosec-8", "floor"}


def test_bare_loops_can_be_measured_alone(digit_network: Artifact, networks: Path, tmp_path: Path):
    workload = digit_workload(digit_network, networks, tmp_path)
    plan = Plan(rounds=1, turns=1, load_s=1, idle_s=0.0, connections=(2,), floor=True)
    screen = Console(file=io.StringIO(), width=180)
    show_results(screen, Results(workload, plan, run_rounds(workload, [], plan, tmp_path, screen.print)))
    assert screen.file.getvalue().count("images/s, all cores") == 1


def played(name: str, label: str, *arguments: str) -> ServerSpec:
    module = "tests.benchmarks.serving.played_server"
    return ServerSpec(name, module, ("--label", label, *arguments), "/predict", raw)


def fails(workload: Workload, servers: list[ServerSpec], folder: Path) -> str:
    plan = Plan(rounds=1, turns=1, load_s=1, idle_s=0.0, connections=(1,), floor=False)
    with pytest.raises(ServerError) as raised:
        run_rounds(workload, servers, plan, folder, print)
    return str(raised.value)


def test_servers_that_answer_differently_are_told_and_none_of_them_is_blamed(
    workload: Workload, tmp_path: Path, require
):
    require("wrk")
    told = fails(workload, [played("one", "owl"), played("other", "cat")], tmp_path)
    assert told == "the servers do not do the same job: they answer {'one': 'owl', 'other': 'cat'}"


def test_a_server_that_dies_beside_others_is_told_with_its_log_and_the_others_are_ended(
    workload: Workload, tmp_path: Path, require
):
    require("wrk")
    brief = played("brief", "owl", "--lived", str(tmp_path / "lived"))
    told = fails(workload, [played("steady", "owl"), brief], tmp_path)
    assert re.match(r"brief: .*; the end of its log:\nthis life was short$", told)
    assert (tmp_path / "steady.log").read_text().endswith("ended in order\n")
