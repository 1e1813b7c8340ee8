"""The dashboard: each of its queries gives data when a real Prometheus is asked that scrapes a real server."""

import json
import math
import re
from typing import Any

import pytest

from tests.deploy.conftest import ask
from tests.documents import ROOT
from tests.prometheus import Prometheus
from tests.service.served import Served, until

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "resnet-serve.json").read_text())
QUESTIONS = ["Healthy?", "Fast?", "Where does the time go?", "What does it predict?"]
CHOSEN = {"$job": "resnet-serve", "$instance": ".*", "$model": ".*", "$__rate_interval": "1m"}
"""What Grafana puts in the place of the dashboard's variables."""


def panels() -> list[dict[str, Any]]:
    """All that show something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> list[Any]:
    """Each with its panel's title."""
    return [
        pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")
        for panel in panels()
        for target in panel["targets"]
    ]


def chosen(expression: str) -> str:
    for variable, value in CHOSEN.items():
        expression = expression.replace(variable, value)
    return expression


@pytest.mark.parametrize("expression", queries())
def test_a_query_gives_data(expression: str, prometheus: Prometheus, busy_server: Served) -> None:
    """Numbers: a mean over no requests is none."""
    ask(busy_server)

    def numbers() -> list[float]:
        values = (float(one["value"][1]) for one in prometheus.query(chosen(expression)))
        return [value for value in values if not math.isnan(value)]

    until(numbers, f"data of {expression}")


def test_every_variable_of_a_query_is_one_of_the_dashboard() -> None:
    known = {f"${variable['name']}" for variable in DASHBOARD["templating"]["list"]} | {"$__rate_interval"}
    used = {name for query in queries() for name in re.findall(r"\$\w+", query.values[0])}
    assert used <= known
    assert used == set(CHOSEN)


def test_variables_have_values(prometheus: Prometheus) -> None:
    """What Grafana asks for the choices: the values of a label of a series."""
    asked = [variable["definition"] for variable in DASHBOARD["templating"]["list"] if variable["type"] == "query"]
    for definition in asked:
        (series, label), *_ = re.findall(r"label_values\((.+), (\w+)\)", definition)
        found = prometheus.query(chosen(series))
        assert found
        assert all(one["metric"].get(label) for one in found)


def test_it_asks_the_four_questions() -> None:
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == QUESTIONS


def test_no_panel_lies_on_another() -> None:
    """Of a grid of 24 columns each cell has one panel."""
    cells = [
        (column, line)
        for place in (panel["gridPos"] for panel in DASHBOARD["panels"])
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(column for column, _ in cells) == 23
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
