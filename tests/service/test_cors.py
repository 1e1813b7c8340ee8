"""CORS as browsers ask: preflights, answers and errors of every kind, and nothing for other pages or by default."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers
from tests.service.stock import FAILING
from tests.service.test_api_keys import ALICE, line
from tests.service.wire import Wire, post

PAGE, STRANGER = "https://app.example.org", "https://other.example.org"


@pytest.fixture(scope="module")
def served(serve_module: Servers, repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """A server for pages of one origin, who send a key."""
    keys = tmp_path_factory.mktemp("cors") / "keys"
    keys.write_text(line("alice", "predict", ALICE))
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    return serve_module(*models, "--cors-origins", f"{PAGE},https://second.example.org", "--api-key-file", keys).ready()


@pytest.fixture
def browser(served: Served) -> Iterator[httpx.Client]:
    headers = {"origin": PAGE, "authorization": f"Bearer {ALICE}"}
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S, headers=headers) as client:
        yield client


def preflight(url: str, path: str, origin: str) -> httpx.Response:
    """As Chromium sends it before a page's request with a key: no key in it, names of fields in lower case."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,baggage,content-type,traceparent,tracestate,x-request-id",
    }
    return httpx.options(url + path, headers=headers, timeout=DEADLINE_S)


@pytest.mark.parametrize("path", ["/predict", "/models/plain/predict", "/models", "/v2/models/plain/infer"])
def test_a_preflight_is_answered_without_a_key(served: Served, path: str) -> None:
    answer = preflight(served.url, path, PAGE)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == PAGE
    assert {"POST", "PUT", "GET"} <= set(answer.headers["access-control-allow-methods"].split(", "))
    allowed = answer.headers["access-control-allow-headers"].lower().split(", ")
    assert {"authorization", "baggage", "content-type", "traceparent", "tracestate", "x-request-id"} <= set(allowed)
    assert "access-control-allow-credentials" not in answer.headers
    assert "origin" in answer.headers["vary"].lower()


def test_a_page_of_another_origin_is_not_let_in(served: Served) -> None:
    assert "access-control-allow-origin" not in preflight(served.url, "/predict", STRANGER).headers
    headers = {"origin": STRANGER, "x-api-key": ALICE}
    for answer in (
        httpx.post(f"{served.url}/predict", content=png(), headers=headers, timeout=DEADLINE_S),
        httpx.get(f"{served.url}/models", headers=headers, timeout=DEADLINE_S),
    ):
        assert answer.status_code == 200
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/predict", png(), 200),
        ("GET", "/models", b"", 200),
        ("POST", "/predict", b"no image", 415),
        ("POST", "/models/none/predict", png(), 404),
        ("GET", "/models/none", b"", 404),
        ("GET", "/nowhere", b"", 404),
        ("DELETE", "/predict", b"", 405),
        ("DELETE", "/models", b"", 405),
        ("POST", "/models/faulty/predict", png(first=FAILING), 500),
        ("POST", "/models/wrong/predict", png(), 503),
        ("POST", "/v2/models/plain/infer", b"{", 400),
    ],
)
def test_a_page_reads_answers_and_errors(
    browser: httpx.Client, method: str, path: str, body: bytes, status: int
) -> None:
    answer = browser.request(method, path, content=body)
    assert answer.status_code == status, answer.text
    assert answer.headers.get_list("access-control-allow-origin") == [PAGE]
    assert "X-Request-ID" in answer.headers["access-control-expose-headers"]
    assert "Origin" in answer.headers["vary"]


def test_a_page_reads_refusals_that_come_before_the_request_is_one(served: Served) -> None:
    for path in ("/predict", "/models"):
        answer = httpx.post(served.url + path, headers={"origin": PAGE, "x-api-key": "wrong"}, timeout=DEADLINE_S)
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, PAGE)
    with Wire(served.address) as wire:
        wire.send(post(png(), "/predict", f"Origin: {PAGE}", "Cookie: " + "x" * (1 << 17)))
        answer_ = wire.answer()
        assert (answer_.status, answer_.headers["access-control-allow-origin"]) == (431, PAGE)


def test_without_the_setting_no_page_is_let_in(server: Served) -> None:
    answers = (
        preflight(server.url, "/predict", PAGE),
        httpx.get(f"{server.url}/models", headers={"origin": PAGE}, timeout=DEADLINE_S),
        httpx.post(f"{server.url}/predict", content=png(), headers={"origin": PAGE}, timeout=DEADLINE_S),
    )
    for answer in answers:
        assert not [name for name in answer.headers if name.startswith("access-control-")]
