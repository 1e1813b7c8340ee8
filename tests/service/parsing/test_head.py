"""What a request's head asks for: paths of the predict routes, and header fields."""

from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import BadRequest
from service.parsing.head import MAX_NUMBER, Head, Target, parse_target


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


def head(query: bytes = b"", **fields: bytes) -> Head:
    return Head(
        "POST", Target("/predict"), query, {name.replace("_", "-").encode(): value for name, value in fields.items()}
    )


@pytest.mark.parametrize(("given", "seconds"), [(b"1", 0.001), (b"2500", 2.5), (b"2147483647", 2147483.647)])
def test_a_client_may_give_its_request_a_time_in_milliseconds(given: bytes, seconds: float) -> None:
    assert head(x_request_timeout_ms=given).timeout_s == seconds
    assert head().timeout_s is None


@pytest.mark.parametrize(
    "given", [b"", b"0", b"-1", b"1.5", b"1e3", b"ten", str(MAX_NUMBER + 1).encode(), b"1" * 5000, "٣".encode()]
)
def test_a_time_and_a_number_of_classes_are_positive_whole_numbers_each_time_they_are_asked_for(given: bytes) -> None:
    asking = head(b"top_k=" + given, x_request_timeout_ms=given)
    for _ in range(2):
        with pytest.raises(BadRequest, match="X-Request-Timeout-Ms must be a positive whole number"):
            _ = asking.timeout_s
        with pytest.raises(BadRequest, match="top_k must be a positive whole number"):
            _ = asking.top_k


def test_the_last_of_several_numbers_of_classes_counts_and_five_without_any() -> None:
    assert (head().top_k, head(b"top_k=2&top_k=3&").top_k) == (5, 3)


@pytest.mark.parametrize("query", [b"topk=3", b"top_k=2&other=x&top_k=3", b"top-k", b"=3", b"%66oo=1&top_k=1"])
def test_an_unknown_parameter_is_refused_and_named(query: bytes) -> None:
    with pytest.raises(BadRequest, match=r"unknown query parameter '.*'; the only one is top_k"):
        _ = head(query).top_k


@pytest.mark.parametrize("given", [b"", b"with space", b"x" * 129, b"line\nbreak", "é".encode()])
def test_an_id_that_could_spoil_a_log_is_passed_over(given: bytes) -> None:
    assert head(x_request_id=given).request_id is None
    assert head(x_request_id=b"mine-1").request_id == "mine-1"


@pytest.mark.parametrize("given", [b"", b"00-1-2-01", b"00-" + b"A" * 32 + b"-" + b"b" * 16 + b"-01"])
def test_a_trace_is_passed_on_only_in_its_own_form(given: bytes) -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    assert head(traceparent=given).trace is None
    assert head(traceparent=trace.encode()).trace == trace
