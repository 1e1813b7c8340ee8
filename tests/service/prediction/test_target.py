"""Paths of the predict routes."""

from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.prediction.target import Target, parse_target


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (b"/predict", Target("/predict")),
        (b"/models/m/predict", Target("/models/{model}/predict", "m")),
        (b"/models/m/versions/3/predict", Target("/models/{model}/versions/{version}/predict", "m", "3")),
        (b"/predictions/m", Target("/predictions/{model}", "m")),
        (b"/models/a.b-c/predict", Target("/models/{model}/predict", "a.b-c")),
        (b"/models/caf%C3%A9/predict", Target("/models/{model}/predict", "café")),
        (b"/%70redict", Target("/predict")),
    ],
)
def test_predict_routes(path: bytes, target: Target) -> None:
    assert parse_target(path) == target


@pytest.mark.parametrize(
    "path",
    [
        b"",
        b"/",
        b"*",
        b"/predict/",
        b"//predict",
        b"/predictx",
        b"/models//predict",
        b"/models/a/b/predict",
        b"/models/a%2Fb/predict",
        b"/models/m/versions//predict",
        b"/predictions/",
        b"/models/m",
        b"/models/m/versions/1",
        b"/models/m/predict\n",
    ],
)
def test_other_paths(path: bytes) -> None:
    assert parse_target(path) is None


@settings(derandomize=True, deadline=None)
@given(st.text(min_size=1, max_size=20))
@example("a/b")
@example("a\n")
@example("{model}")
def test_any_model_name_can_be_quoted(name: str) -> None:
    target = parse_target(f"/models/{quote(name, safe='')}/predict".encode())
    assert target == (None if "/" in name else Target("/models/{model}/predict", name))
