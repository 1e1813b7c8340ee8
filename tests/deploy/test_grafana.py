"""The dashboard: each of its queries gives data when a real Prometheus is asked that scrapes a real server."""

import json
import math
import re
from typing import Any

import pytest
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from tests.deploy.conftest import ask
from tests.documents import ROOT
from tests.prometheus import Prometheus
from tests.service.served import Served, until

DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "dashboards" / "resnet-serve.json").read_text())
QUESTIONS = ["Healthy?", "Fast?", "Where does the time go?", "What does it predict?", "Is the shadow as good?"]
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


def known(value: dict[str, Any]) -> dict[str, Any]:
    """What is left of a dashboard that goes through Grafana's types: they drop a field that they do not know."""
    register_default_plugins()
    left: dict[str, Any] = json.loads(json.dumps(Dashboard.from_json(value), cls=JSONEncoder))
    return left


def dropped(before: Any, after: Any, place: str = "") -> list[str]:
    """Where the second lacks something of the first, or has another value."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [one for key in before for one in dropped(before[key], after.get(key), f"{place}/{key}")]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        return [one for index, (old, new) in pairs for one in dropped(old, new, f"{place}/{index}")]
    return [] if before == after else [place]


def test_grafana_knows_every_field() -> None:
    """But for a variable's `definition`, which it shows in its editor and these types lack."""
    assert {place.rpartition("/")[2] for place in dropped(DASHBOARD, known(DASHBOARD))} == {"definition"}
    misspelt = {**DASHBOARD, "panels": [{**DASHBOARD["panels"][1], "gridPoss": {}}]}
    assert "/panels/0/gridPoss" in dropped(misspelt, known(misspelt))


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
        found = until(lambda series=series: prometheus.query(chosen(series)), f"data of {series}")
        assert all(one["metric"].get(label) for one in found)


def test_it_asks_its_questions() -> None:
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
