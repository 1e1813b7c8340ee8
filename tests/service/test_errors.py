"""Every error that a client can get: its status, its stable code, its document, and that the server goes on."""

import gzip
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.config.settings import Settings
from tests.artifacts import make_artifact, make_slow_starter
from tests.service.pictures import b64, check, encode, huge_png, pixels, png
from tests.service.served import DEADLINE_S, Served, Servers, until
from tests.service.stock import FAILING, MAX_BODY_BYTES, MAX_IMAGES, MAX_PIXELS, NOT_A_NUMBER, SLOW
from tests.service.wire import Wire, get, post

TAKEN = "PNG, JPEG, WebP, BMP or GIF"
PROBLEM = {"type", "title", "status", "code", "detail", "request_id"}


def problem(answer: httpx.Response, status: int, code: str, **extra: str) -> dict[str, Any]:
    """The document of an error that is as RFC 9457 and our own contract have it."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document: dict[str, Any] = answer.json()
    assert document.keys() == PROBLEM | extra.keys()
    assert document["type"] == "about:blank"
    assert document["title"]
    assert document["detail"]
    assert (document["status"], document["code"]) == (status, code)
    assert document | extra == document
    return document


FORM = {"content-type": "multipart/form-data; boundary=xyz"}
PART = b'--xyz\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'


@pytest.mark.parametrize(
    "request_with",
    [
        pytest.param({"content": b""}, id="empty body"),
        pytest.param({"content": b"{", "headers": {"content-type": "application/json"}}, id="JSON that ends early"),
        pytest.param({"content": b"\xff", "headers": {"content-type": "application/json"}}, id="JSON not UTF-8"),
        pytest.param({"json": {}}, id="JSON without an image"),
        pytest.param({"json": [b64(png())]}, id="JSON list"),
        pytest.param({"json": {"image": 7}}, id="JSON number for an image"),
        pytest.param({"json": {"images": []}}, id="no images"),
        pytest.param({"json": {"images": [b64(png()), None]}}, id="null among the images"),
        pytest.param({"json": {"image": b64(png()), "top_k": 3}}, id="unknown field"),
        pytest.param({"json": {"image": ""}}, id="empty base64"),
        pytest.param({"json": {"image": "not base64!"}}, id="not base64"),
        pytest.param({"json": {"image": b64(png())[:41]}}, id="base64 that is cut off"),
        pytest.param({"json": {"image": "caf\u00e9"}}, id="base64 not ASCII"),
        pytest.param({"data": {"image": "text"}, "files": {}, "headers": FORM}, id="form without its boundary"),
        pytest.param({"content": PART + png(), "headers": FORM}, id="form that ends early"),
        pytest.param({"content": PART + b"\r\n--xyz--\r\n", "headers": FORM}, id="form with an empty file"),
        pytest.param({"content": png(), "headers": {"content-type": "multipart/form-data"}}, id="form no boundary"),
        pytest.param({"content": png(), "params": {"top_k": "0"}}, id="top_k 0"),
        pytest.param({"content": png(), "params": {"top_k": "-1"}}, id="top_k negative"),
        pytest.param({"content": png(), "params": {"top_k": "many"}}, id="top_k a word"),
        pytest.param({"content": png(), "params": {"top_k": "1" * 5000}}, id="top_k endless"),
        pytest.param({"content": png(), "params": {"top_k": "2.5"}}, id="top_k a fraction"),
        pytest.param({"content": png(), "params": {"top_k": ""}}, id="top_k empty"),
        pytest.param({"content": png(), "params": {"topk": "3"}}, id="top_k misspelt"),
        pytest.param({"content": png(), "params": {"top_k": "3", "model": "x"}}, id="unknown parameter"),
        pytest.param({"content": png(), "params": {"top_k": "\u0665"}}, id="top_k an Arabic digit"),
        pytest.param({"content": png(), "headers": {"x-request-timeout-ms": "0"}}, id="timeout 0"),
        pytest.param({"content": png(), "headers": {"x-request-timeout-ms": "soon"}}, id="timeout a word"),
        pytest.param({"content": png(), "headers": {"x-request-timeout-ms": "-5"}}, id="timeout negative"),
    ],
)
def test_a_malformed_request_is_400(client: httpx.Client, request_with: dict[str, Any]) -> None:
    problem(client.post("/predict", **request_with), 400, "bad_request")


@pytest.mark.parametrize(("method", "path"), [("POST", "/predict"), ("GET", "/models/zebra"), ("POST", "/nowhere")])
def test_a_problem_carries_the_requests_id(client: httpx.Client, method: str, path: str) -> None:
    answer = client.request(method, path, headers={"x-request-id": "mine"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "mine"
    other = client.request(method, path)
    assert other.headers["x-request-id"] == other.json()["request_id"] != "mine"


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/models/zebra/predict", "zebra"),
        ("/predictions/zebra", "zebra"),
        ("/models/plain/versions/1/predict", "2"),  # only the highest is served
        ("/models/plain/versions/two/predict", "two"),
        ("/models/plain/versions/%D9%A2/predict", "plain"),
        ("/models/damaged/predict", "plain"),
    ],
)
def test_an_unknown_model_or_version_is_404(client: httpx.Client, path: str, names: str) -> None:
    assert names in problem(client.post(path, content=png()), 404, "not_found")["detail"]


@pytest.mark.parametrize("path", ["/nowhere", "/models/zebra", "/predict/", "/models/plain/versions", "/%00"])
def test_an_unknown_route_is_404(client: httpx.Client, path: str) -> None:
    problem(client.get(path), 404, "not_found")


def test_who_opens_the_address_learns_of_the_page_of_routes(client: httpx.Client) -> None:
    assert (
        problem(client.get("/"), 404, "not_found")["detail"] == "no such route: /; GET /docs shows those that there are"
    )
    assert client.get("/docs").is_success


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", {"POST", "PUT"}),
        ("DELETE", "/models/plain/predict", {"POST", "PUT"}),
        ("PATCH", "/predictions/plain", {"POST", "PUT"}),
        ("POST", "/models", {"GET", "HEAD"}),
        ("PUT", "/models/plain", {"GET", "HEAD"}),
        ("POST", "/livez", {"GET", "HEAD"}),
        ("DELETE", "/metrics", {"GET", "HEAD"}),
    ],
)
def test_a_wrong_method_is_405_and_names_the_right_ones(
    client: httpx.Client, method: str, path: str, allowed: set[str]
) -> None:
    answer = client.request(method, path)
    problem(answer, 405, "method_not_allowed")
    assert set(answer.headers["allow"].split(", ")) == allowed


def test_a_body_over_the_limit_is_413_and_leaves_the_connection_usable(client: httpx.Client) -> None:
    def parts() -> Iterator[bytes]:
        yield from [bytes(10_000)] * (MAX_BODY_BYTES // 10_000 + 1)

    with httpx.Client(base_url=client.base_url, limits=httpx.Limits(max_connections=1)) as one:
        problem(one.post("/predict", content=bytes(MAX_BODY_BYTES + 1)), 413, "too_large")
        problem(one.post("/predict", content=parts()), 413, "too_large")
        check(one.post("/predict", content=png()).json(), pixels())


def test_a_body_at_the_limit_is_taken(client: httpx.Client) -> None:
    picture = png()
    data = picture + bytes(MAX_BODY_BYTES - len(picture))  # what follows a PNG's end is no part of it
    check(client.post("/predict", content=data).json(), pixels())


def test_a_client_that_sends_far_too_much_reads_its_413(client: httpx.Client) -> None:
    for _ in range(10):
        problem(httpx.post(f"{client.base_url}/predict", content=bytes(20 * MAX_BODY_BYTES)), 413, "too_large")


def test_too_many_images_are_413(client: httpx.Client) -> None:
    images = [b64(png())] * (MAX_IMAGES + 1)
    problem(client.post("/predict", json={"images": images}), 413, "too_large")
    assert client.post("/predict", json={"images": images[1:]}).status_code == 200


def test_too_many_pixels_are_413_by_the_header_alone(client: httpx.Client) -> None:
    side = int(MAX_PIXELS**0.5)
    problem(client.post("/predict", content=huge_png(30_000, 30_000)), 413, "too_large")
    problem(client.post("/predict", content=huge_png(side + 1, side)), 413, "too_large")
    # One pixel fewer, and what is missing behind the header matters.
    problem(client.post("/predict", content=huge_png(side, side)), 422, "undecodable_image")


@pytest.mark.parametrize(
    "data",
    [b"hello", b"\x00" * 100, b"%PDF-1.7", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"II*\x00\x08\x00\x00\x00"],
    ids=["text", "zeros", "PDF", "SVG", "TIFF"],
)
@pytest.mark.parametrize("content_type", ["image/png", "application/x-www-form-urlencoded"])
def test_what_is_no_image_is_415(client: httpx.Client, data: bytes, content_type: str) -> None:
    problem(
        client.post("/predict", content=data, headers={"content-type": content_type}), 415, "unsupported_media_type"
    )


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"II*\x00\x08\x00\x00\x00", f"this is TIFF; send {TAKEN}, or start the server with tiff in --image-types"),
        (b"\0\0\0\x18ftypheic\0\0", f"this is HEIC; send {TAKEN}, or start the server with heic in --image-types"),
        (b"%PDF-1.7", f"this is PDF; send {TAKEN}"),
        (b"hello", f"not a {TAKEN} image"),
    ],
)
def test_what_is_not_taken_is_named(client: httpx.Client, data: bytes, detail: str) -> None:
    assert problem(client.post("/predict", content=data), 415, "unsupported_media_type")["detail"] == detail


@pytest.mark.parametrize(
    "data", [png()[:8], png()[:20], png()[:33], png()[:50], encode(pixels(shape=(64, 64, 1)), "JPEG")[:300]]
)
def test_what_does_not_decode_is_told_without_a_librarys_words(client: httpx.Client, data: bytes) -> None:
    detail = problem(client.post("/predict", content=data), 422, "undecodable_image")["detail"]
    assert re.fullmatch(
        r"the (PNG|JPEG) image does not decode: it (is cut off|ends before its picture begins).*", detail
    )


@pytest.mark.parametrize("coding", ["bzip2", "gzip, gzip", "compress"])
def test_a_coding_that_is_not_undone_is_415_and_the_known_are_named(client: httpx.Client, coding: str) -> None:
    answer = client.post("/predict", content=png(), headers={"content-encoding": coding})
    assert coding in problem(answer, 415, "unsupported_coding")["detail"]
    assert answer.headers["accept-encoding"] == "gzip, deflate, br, zstd"


def test_two_content_encodings_are_400(client: httpx.Client) -> None:
    headers = [("content-encoding", "gzip"), ("content-encoding", "br")]
    problem(client.post("/predict", content=png(), headers=headers), 400, "bad_request")


@pytest.mark.parametrize("data", [png(), gzip.compress(png())[:-4], b""], ids=["not compressed", "cut off", "empty"])
def test_a_body_that_is_not_compressed_as_it_says_is_400(client: httpx.Client, data: bytes) -> None:
    answer = client.post("/predict", content=data, headers={"content-encoding": "gzip"})
    assert "gzip" in problem(answer, 400, "bad_request")["detail"]


def test_a_compressed_body_that_becomes_too_large_is_413(client: httpx.Client) -> None:
    for size, status in ((MAX_BODY_BYTES, 200), (MAX_BODY_BYTES + 1, 413)):
        data = gzip.compress(png() + bytes(size - len(png())))
        assert client.post("/predict", content=data, headers={"content-encoding": "gzip"}).status_code == status


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF"])
def test_a_truncated_image_is_422(client: httpx.Client, kind: str) -> None:
    data = encode(pixels(shape=(64, 64, 1)), kind)
    problem(client.post("/predict", content=data[: len(data) // 2]), 422, "undecodable_image")


@pytest.mark.parametrize("first", [FAILING, NOT_A_NUMBER])
def test_a_failing_engine_is_500_without_a_word_of_why(server: Served, client: httpx.Client, first: int) -> None:
    headers = {"x-request-id": f"failing-{first}"}
    answer = client.post("/models/faulty/predict", content=png(first=first), headers=headers)
    detail = problem(answer, 500, "internal_error")["detail"]
    other = client.post("/models/faulty/predict", content=png(first=first))
    assert other.json()["detail"] == detail
    until(lambda: f'"failing-{first}"' in "".join(server.lines), "the log to name the request")
    assert server.events("request failed", level="error", model="faulty")
    check(client.post("/models/faulty/predict", content=png()).json(), pixels())


@pytest.mark.parametrize("first", [FAILING, NOT_A_NUMBER])
def test_a_failing_engine_among_several_images_is_logged_and_counted(
    server: Served, client: httpx.Client, first: int
) -> None:
    series, request_id = 'resnet_images_rejected_total{reason="internal_error"}', f"several-{first}"
    before = server.metrics()[series]
    images = {"images": [b64(png()), b64(png(first=first))]}
    good, failed = client.post("/models/faulty/predict", json=images, headers={"x-request-id": request_id}).json()[
        "results"
    ]
    check(good, pixels())
    assert (failed["status"], failed["code"]) == (500, "internal_error")
    until(lambda: f'"{request_id}"' in "".join(server.lines), "the log to name the request")
    assert server.metrics()[series] - before == 1


def test_a_deadline_that_passes_is_504(client: httpx.Client) -> None:
    answer = client.post("/models/faulty/predict", content=png(first=SLOW), headers={"x-request-timeout-ms": "20"})
    problem(answer, 504, "deadline_exceeded")


@pytest.mark.parametrize(
    ("setting", "headers"),
    [("--request-timeout", {}), ("--max-request-timeout", {"x-request-timeout-ms": "60000"})],
    ids=["usual", "latest"],
)
def test_usual_and_latest_deadline_can_be_set(
    serve: Servers, repository: Path, setting: str, headers: dict[str, str]
) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    served = serve(*flags, setting, "0.1").ready()
    with served.paused():
        client_timeout_s = Settings.model_fields["request_timeout"].default - 1  # less than without the setting
        answer = httpx.post(served.url + "/predict", content=png(), headers=headers, timeout=client_timeout_s)
    problem(answer, 504, "deadline_exceeded")


def test_requests_whose_deadline_passes_while_they_wait_are_never_run(server: Served, client: httpx.Client) -> None:
    def late(seed: int) -> httpx.Response:
        return client.post("/predict", content=png(seed), headers={"x-request-timeout-ms": "100"})

    before = server.metrics()
    with server.paused(), ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(late, range(4)))
    for answer in answers:
        problem(answer, 504, "deadline_exceeded")
    check(client.post("/predict", content=png()).json(), pixels())
    after = until(lambda: (now := server.metrics())["resnet_inflight_requests"] == 0 and now, "the slots to return")
    expired = 'resnet_requests_total{model="plain",outcome="expired",version="2"}'
    ran = 'resnet_batch_size_sum{model="plain"}'
    assert (after[expired] - before[expired], after[ran] - before[ran]) == (4, 1)


def test_a_model_that_failed_to_load_is_503_for_long(client: httpx.Client) -> None:
    answer = client.post("/models/wrong/predict", content=png())
    assert "golden" in problem(answer, 503, "unavailable", reason="loading")["detail"]
    assert int(answer.headers["retry-after"]) >= 30


@pytest.fixture(scope="module")
def narrow(serve_module: Servers, tmp_path_factory: pytest.TempPathFactory) -> Served:
    """One slot and one worker."""
    repository = tmp_path_factory.mktemp("repository")
    make_artifact(repository, "plain")
    flags = (
        "--model-repository",
        repository,
        "--workers",
        "1",
        "--max-batch-size",
        "1",
        "--api-processes",
        "1",
        "--queue-capacity",
        "1",
    )
    return serve_module(*flags)


def test_while_models_load_the_server_lives_and_is_not_ready(serve: Servers, tmp_path: Path) -> None:
    make_slow_starter(tmp_path, "slow")
    served = serve("--model-repository", tmp_path, "--workers", "1", "--max-batch-size", "1")
    served.wait_for_event("worker started")
    livez, readyz = served.status("/livez"), served.status("/readyz")
    answer = httpx.post(served.url + "/predict", content=png(), timeout=DEADLINE_S)
    (model,) = httpx.get(served.url + "/models", timeout=DEADLINE_S).json()["models"]
    assert (livez, readyz) == (200, 503)
    problem(answer, 503, "unavailable", reason="loading")
    assert int(answer.headers["retry-after"]) > 0
    assert model["state"] == "loading"
    served.ready()
    check(httpx.post(served.url + "/predict", content=png()).json(), pixels())


def test_a_full_server_refuses_at_once_and_recovers(narrow: Served) -> None:
    before = narrow.ready().metrics()
    with ThreadPoolExecutor(1) as pool, narrow.paused():
        first = pool.submit(httpx.post, narrow.url + "/predict", content=png(), timeout=DEADLINE_S)
        until(lambda: narrow.metrics()["resnet_inflight_requests"] == 1, "the first request")
        refused = [httpx.post(narrow.url + "/predict", content=png()) for _ in range(3)]
        assert narrow.status("/readyz") == 200
    check(first.result().json(), pixels())
    for answer in refused:
        problem(answer, 503, "unavailable", reason="full")
        assert int(answer.headers["retry-after"]) > 0
    check(httpx.post(narrow.url + "/predict", content=png()).json(), pixels())
    after = narrow.metrics()
    shed = 'resnet_requests_shed_total{reason="full"}'
    assert after[shed] - before[shed] == 3


def test_more_images_than_slots_are_413_not_an_endless_503(narrow: Served) -> None:
    answer = httpx.post(narrow.ready().url + "/predict", json={"images": [b64(png())] * 2})
    problem(answer, 413, "too_large")


def test_a_draining_server_says_so(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", "--drain-delay", "2")
    served = serve(*flags, "--grace", "60").ready()
    refused = post(png(), "/models/zebra/predict")
    with httpx.Client(base_url=served.url) as client, Wire(served.address) as wire:
        check(client.post("/predict", content=png()).json(), pixels())
        wire.send(refused[:-1])
        served.signal(15)
        until(lambda: served.status("/readyz") == 503, "readiness to fall")
        wire.send(refused[-1:])
        answer = wire.answer()
        assert (answer.status, answer.headers["connection"]) == (404, "close")
        assert served.status("/livez") == 200
        # Load balancers learn of it from the probe: until then their requests are answered.
        answer = client.post("/predict", content=png())
        check(answer.json(), pixels())
        assert answer.headers["connection"] == "close"
    assert served.wait() == 0


def test_many_bytes_in_flight_are_refused(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    served = serve(*flags, "--max-bytes-in-flight", "100000").ready()
    with Wire(served.address) as wire:
        whole = post(bytes(90_000))
        wire.send(whole[:200])
        assert not _refused_for_bytes(served)  # what is only declared does not count
        wire.send(whole[200:-1])
        until(lambda: _refused_for_bytes(served), "the bytes to be counted")
    until(lambda: not _refused_for_bytes(served), "the bytes to come back")
    assert served.stop() == 0


def _refused_for_bytes(served: Served) -> bool:
    answer = httpx.post(served.url + "/predict", content=png() + bytes(20_000))
    if answer.status_code == 503:
        assert problem(answer, 503, "unavailable", reason="full")
        return True
    check(answer.json(), pixels())
    return False


def test_what_is_not_http_is_400(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(b"\x16\x03\x01 this is TLS, or worse\r\n\r\n")
        answer = wire.answer()
        assert wire.ended()
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert json.loads(answer.body)["code"] == "bad_request"


def test_a_client_that_waits_for_100_continue_is_refused_before_the_body(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(get("/predict", f"Content-Length: {MAX_BODY_BYTES + 1}", "Expect: 100-continue", method="POST"))
        answer = wire.answer()
    assert (answer.status, answer.headers["connection"]) == (413, "close")


def test_a_client_that_waits_for_100_continue_is_asked_for_the_body(server: Served) -> None:
    with Wire(server.address) as wire:
        wire.send(get("/predict", f"Content-Length: {len(png())}", "Expect: 100-continue", method="PUT"))
        assert wire.answer().status == 100
        wire.send(png())
        check(json.loads(wire.answer().body), pixels())
