"""Predictions over HTTP: every way to send images, and what comes back."""

import gzip
import json
import re
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import brotli
import httpx
import numpy as np
import pytest
from backports import zstd
from PIL import Image

from tests.artifacts import LABELS
from tests.service.pictures import b64, check, decode, encode, pixels, png
from tests.service.served import Served, Servers
from tests.service.stock import COLOUR_LABELS, COLOUR_SHAPE

ANSWER = {"request_id", "model", "version", "predictions", "batch_size", "timings_ms"}
SEVERAL = {"request_id", "model", "version", "results", "timings_ms"}
STAGES = ["read", "decode", "queue", "inference", "respond"]


COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstd.compress,
}


def chunks(data: bytes) -> Iterator[bytes]:
    """A body that httpx sends chunked."""
    for start in range(0, len(data), 10):
        yield data[start : start + 10]


def test_an_answer_has_the_documented_keys_and_the_networks_classes(client: httpx.Client) -> None:
    answer = client.post("/predict", content=png())
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    assert document.keys() == ANSWER
    assert (document["model"], document["version"], document["batch_size"]) == ("plain", "2", 1)
    assert all(one.keys() == {"label", "index", "probability"} for one in document["predictions"])
    check(document, pixels())


@pytest.mark.parametrize(
    ("kind", "options"),
    [("PNG", {}), ("BMP", {}), ("GIF", {}), ("WEBP", {"lossless": True}), ("WEBP", {}), ("JPEG", {"quality": 95})],
)
def test_every_image_type_is_decoded_as_pillow_does(client: httpx.Client, kind: str, options: dict[str, Any]) -> None:
    data = encode(pixels(3), kind, **options)
    check(client.post("/predict", content=data).json(), decode(data))


def test_only_types_that_are_named_are_taken(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--image-types", "png,tiff")
    with httpx.Client(base_url=serve(*flags).ready().url) as client:
        check(client.post("/predict", content=encode(pixels(1), "TIFF")).json(), pixels(1))
        check(client.post("/predict", content=encode(pixels(2), "PNG")).json(), pixels(2))
        refused = client.post("/predict", content=encode(pixels(3), "JPEG"))
        detail = "this is JPEG; send PNG or TIFF, or start the server with jpeg in --image-types"
        assert (refused.status_code, refused.json()["detail"]) == (415, detail)


@pytest.mark.parametrize(
    "content_type",
    [None, "application/octet-stream", "application/x-www-form-urlencoded", "image/png", "image/jpeg", "text/plain"],
)
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_raw_body_is_the_image_whatever_its_content_type(
    client: httpx.Client, method: str, content_type: str | None
) -> None:
    headers = {} if content_type is None else {"content-type": content_type}
    check(client.request(method, "/predict", content=png(1), headers=headers).json(), pixels(1))


@pytest.mark.parametrize(
    "request_with",
    [
        pytest.param(lambda data: {"content": chunks(data)}, id="chunked"),
        pytest.param(lambda data: {"files": {"image": data}}, id="multipart"),
        pytest.param(
            lambda data: {"files": {"whatever": ("a.png", data, "image/png")}, "data": {"note": "hi"}}, id="form"
        ),
        pytest.param(lambda data: {"json": {"image": b64(data)}}, id="json"),
    ],
)
def test_one_image_in_any_body_gets_one_answer(
    client: httpx.Client, request_with: Callable[[bytes], dict[str, Any]]
) -> None:
    document = client.post("/predict", **request_with(png(2))).json()
    assert document.keys() == ANSWER
    check(document, pixels(2))


@pytest.mark.parametrize("coding", ["gzip", "x-gzip", "deflate", "br", "zstd", "GZIP, identity"])
@pytest.mark.parametrize("way", ["raw", "multipart", "json", "json that says nothing"])
def test_a_compressed_body_is_what_it_was_before(client: httpx.Client, way: str, coding: str) -> None:
    options: dict[str, Any] = {"raw": {"content": png(6)}, "multipart": {"files": {"image": png(6)}}}
    whole = httpx.Request("POST", client.base_url, **options.get(way, {"json": {"image": b64(png(6))}}))
    compress: Callable[[bytes], bytes] = COMPRESS[coding.lower().removeprefix("x-").removesuffix(", identity")]
    headers = {"content-encoding": coding}
    if "content-type" in whole.headers and way != "json that says nothing":
        headers["content-type"] = whole.headers["content-type"]
    check(client.post("/predict", content=compress(whole.read()), headers=headers).json(), pixels(6))


@pytest.mark.parametrize("body", ["multipart", "json"])
def test_several_images_are_answered_in_their_order(client: httpx.Client, body: str) -> None:
    images = [png(seed) for seed in range(5)]
    if body == "json":
        answer = client.post("/predict", json={"images": [b64(image) for image in images]})
    else:
        answer = client.post("/predict", files=[("image", image) for image in images])
    document = answer.json()
    assert document.keys() == SEVERAL
    assert len(document["results"]) == 5
    names = {"file": "upload"} if body == "multipart" else {}  # httpx's, for a file without one
    for seed, result in enumerate(document["results"]):
        assert result.keys() == {"predictions", "batch_size", *names}
        assert result | names == result
        check(result, pixels(seed))


def test_larger_images_show_their_centre_and_keep_their_place_among_tiny_ones(client: httpx.Client) -> None:
    """Larger ones are decoded on threads, and may be done in any order."""
    large = [pixels(seed, shape=(80, 100, 1)) for seed in range(3)]
    # The shorter side becomes 8, so the longer 10, of which the middle 8 are shown.
    shown = [Image.fromarray(one[..., 0]).resize((8, 8), Image.Resampling.BILINEAR, (10, 0, 90, 80)) for one in large]
    bodies = [encode(large[0]), png(0), encode(large[1]), png(1), encode(large[2])]
    results = client.post("/predict", json={"images": [b64(body) for body in bodies]}).json()["results"]
    for place, image in zip((0, 2, 4), shown, strict=True):
        check(results[place], np.asarray(image)[..., None])
    for place, seed in ((1, 0), (3, 1)):
        check(results[place], pixels(seed))


def test_a_list_of_one_is_answered_with_a_list_of_one(client: httpx.Client) -> None:
    document = client.post("/predict", json={"images": [b64(png())]}).json()
    check(document["results"][0], pixels())
    assert len(document["results"]) == 1


def test_a_bad_image_among_several_is_a_problem_in_its_place(client: httpx.Client) -> None:
    bodies = [png(0), png(1)[:-30], b"no image", png(3)]
    answer = client.post("/predict", json={"images": [b64(body) for body in bodies]}, headers={"x-request-id": "mine"})
    assert answer.status_code == 200
    first, truncated, text, last = answer.json()["results"]
    check(first, pixels(0))
    check(last, pixels(3))
    assert (truncated["status"], truncated["code"]) == (422, "undecodable_image")
    assert (text["status"], text["code"]) == (415, "unsupported_media_type")
    assert truncated.keys() == {"type", "title", "status", "code", "detail", "request_id"}
    assert truncated["request_id"] == "mine"


def test_files_that_are_no_images_are_problems_in_their_places_and_named(client: httpx.Client) -> None:
    files = [("a", ("good.png", png(0))), ("b", ("note.txt", b"text")), ("c", ("empty.png", b"")), ("d", ("", b""))]
    answer = client.post("/predict", files=[*files, ("e", ("last.png", png(1)))])
    assert answer.status_code == 200
    first, text, empty, last = answer.json()["results"]
    check(first, pixels(0))
    check(last, pixels(1))
    assert [one["file"] for one in (first, text, empty, last)] == ["good.png", "note.txt", "empty.png", "last.png"]
    assert (text["code"], empty["code"]) == ("unsupported_media_type", "bad_request")
    assert text["detail"].startswith("field 'b', file 'note.txt': ")


def test_one_file_has_one_form_of_answer_whatever_else_the_form_holds(client: httpx.Client) -> None:
    answer = client.post("/predict", files=[("a", ("a.png", png())), ("b", ("", b"")), ("note", (None, b"text"))])
    assert answer.json().keys() == ANSWER


def test_an_image_that_is_not_base64_fails_in_its_place_and_is_counted(server: Served, client: httpx.Client) -> None:
    series = 'resnet_images_rejected_total{reason="bad_request"}'
    before = server.metrics()[series]
    answer = client.post("/predict", json={"images": [b64(png(0)), "no!", "", b64(png(1))]})
    first, wrong, empty, last = answer.json()["results"]
    check(first, pixels(0))
    check(last, pixels(1))
    assert (wrong["status"], wrong["code"], empty["code"]) == (400, "bad_request", "bad_request")
    assert server.metrics()[series] - before == 2


@pytest.mark.parametrize(("top_k", "shown"), [("1", 1), ("3", 3), ("10", 10), ("11", 10), ("999999999", 10)])
def test_top_k_chooses_how_many_classes_are_shown(client: httpx.Client, top_k: str, shown: int) -> None:
    document = client.post("/predict", params={"top_k": top_k}, content=png()).json()
    assert len(document["predictions"]) == shown
    check(document, pixels(), top_k=shown)


@pytest.mark.parametrize(
    "path",
    ["/models/colour/predict", "/models/colour/versions/1/predict", "/predictions/colour", "/models/c%6flour/predict"],
)
def test_a_named_model_answers(client: httpx.Client, path: str) -> None:
    image = pixels(shape=COLOUR_SHAPE)
    document = client.post(path, content=encode(image)).json()
    assert (document["model"], document["version"]) == ("colour", "1")
    check(document, image, COLOUR_LABELS, top_k=3)


def test_curl_sends_images_as_people_do(require: Callable[[str], str], server: Served, tmp_path: Path) -> None:
    file = tmp_path / "image.png"
    file.write_bytes(png(4))
    ways = (
        ["--data-binary", f"@{file}"],
        ["-T", str(file)],
        ["-F", f"image=@{file}"],
        ["--data-binary", f"@{file}", "-H", "Expect: 100-continue"],
        ["-T", str(file), "-H", "Transfer-Encoding: chunked"],
        ["--http1.0", "--data-binary", f"@{file}"],
    )
    for way in ways:
        command = [require("curl"), "-sS", "--fail-with-body", "--max-time", "30", *way, f"{server.url}/predict"]
        answer = subprocess.run(command, capture_output=True, check=False)
        assert answer.returncode == 0, (way, answer.stdout, answer.stderr)
        check(json.loads(answer.stdout), pixels(4))


def test_a_request_id_is_taken_over(client: httpx.Client) -> None:
    answer = client.post("/predict", content=png(), headers={"x-request-id": "trace/42"})
    assert answer.headers["x-request-id"] == answer.json()["request_id"] == "trace/42"


def test_without_a_request_id_each_request_gets_its_own(client: httpx.Client) -> None:
    answers = [client.post("/predict", content=png()) for _ in range(5)]
    assert all(answer.headers["x-request-id"] == answer.json()["request_id"] for answer in answers)
    assert len({answer.headers["x-request-id"] for answer in answers}) == 5


@pytest.mark.parametrize("given", [b"", b"x" * 129, b"a b", b"caf\xe9", b"tab\there"])
def test_a_request_id_that_could_spoil_a_log_is_replaced(client: httpx.Client, given: bytes) -> None:
    answer = client.post("/predict", content=png(), headers={b"x-request-id": given})
    assert answer.status_code == 200
    assert re.fullmatch("[0-9a-f]{32}", answer.headers["x-request-id"])


def test_a_trace_is_passed_on_only_if_it_is_one(client: httpx.Client) -> None:
    trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert client.post("/predict", content=png(), headers={"traceparent": trace}).headers["traceparent"] == trace
    assert "traceparent" not in client.post("/predict", content=png(), headers={"traceparent": "00-zz"}).headers
    assert "traceparent" not in client.post("/predict", content=png()).headers


def test_server_timing_says_what_the_document_says(client: httpx.Client) -> None:
    answer = client.post("/predict", content=png())
    told = {
        name: float(duration)
        for name, _, duration in (part.partition(";dur=") for part in answer.headers["server-timing"].split(", "))
    }
    assert told == answer.json()["timings_ms"]
    assert list(told) == [*STAGES, "total"]


def test_stages_are_measured_and_make_up_the_total(client: httpx.Client) -> None:
    for seed in range(20):
        answer = client.post("/predict", content=png(seed))
        timings = answer.json()["timings_ms"]
        total = timings["total"]
        assert all(timings[stage] >= 0 for stage in STAGES)
        assert sum(timings[stage] for stage in STAGES) == pytest.approx(total, abs=0.0031)  # six roundings
        assert 0 < timings["inference"] < total <= answer.elapsed.total_seconds() * 1e3


def test_labels_follow_the_logits(client: httpx.Client) -> None:
    document = client.post("/predict", params={"top_k": 10}, content=png(9)).json()
    assert {one["index"]: one["label"] for one in document["predictions"]} == dict(enumerate(LABELS))
