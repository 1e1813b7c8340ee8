"""Arbitrary bytes and arbitrary valid images at the running server: right answers or the client's error, never 500."""

import json
from io import BytesIO
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tests.service.pictures import check, decode, encode
from tests.service.served import Served

ANY_IMAGE = {200, 413, 415, 422}  # what may come of bytes that begin as an image does
BEGINNINGS = (b"\x89PNG", b"\xff\xd8", b"RIFF", b"GIF8", b"BM")
seeded = settings(derandomize=True, deadline=None, max_examples=200)

MAGIC = st.sampled_from(
    [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"BM", b"--x\r\n", b'{"image":"']
)
CONTENT_TYPES = st.sampled_from(["image/png", "application/json", "multipart/form-data; boundary=x", ""])
SIDES = st.integers(1, 40)
FORMATS: list[tuple[str, dict[str, Any], str]] = [
    ("PNG", {}, "1 L LA P RGB RGBA I;16"),
    ("PNG", {"optimize": True}, "L RGB"),
    ("JPEG", {"quality": 90}, "L RGB CMYK"),
    ("JPEG", {"progressive": True}, "L RGB"),
    ("WEBP", {"lossless": True}, "RGB RGBA"),
    ("WEBP", {}, "RGB RGBA"),
    ("BMP", {}, "1 L P RGB"),
    ("GIF", {}, "L P RGB"),
]
KINDS = st.sampled_from([(kind, options, mode) for kind, options, modes in FORMATS for mode in modes.split()])


@seeded
@given(MAGIC, st.binary(max_size=2000), CONTENT_TYPES, st.sampled_from(["", "?top_k=3", "?top_k=x", "?%ff=%00&top_k"]))
def test_arbitrary_bytes_are_answered_with_a_client_error_at_worst(
    client: httpx.Client, magic: bytes, rest: bytes, content_type: str, query: str
) -> None:
    answer = client.post("/predict" + query, content=magic + rest, headers={"content-type": content_type})
    assert answer.status_code in allowed(magic + rest, content_type, query), answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def allowed(body: bytes, content_type: str, query: str) -> set[int]:
    """The statuses that a body may get: one, unless it holds bytes that begin as an image does."""
    if query not in ("", "?top_k=3") or not body:
        return {400}
    if content_type == "application/json":
        try:
            json.loads(body)
        except ValueError:
            return {400}
        return {400} | ANY_IMAGE
    if content_type.startswith("multipart"):
        return {400} | ANY_IMAGE if b"--x--" in body else {400}
    return ANY_IMAGE if body.startswith(BEGINNINGS) else {415}


def picture(seed: int, width: int, height: int, mode: str) -> Image.Image:
    noise = Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 4), dtype=np.uint8))
    if mode == "I;16":
        return Image.fromarray(np.random.default_rng(seed).integers(0, 1 << 16, (height, width), dtype=np.uint16))
    return noise.convert(mode) if mode in ("RGBA", "RGB") else noise.convert("RGB").convert(mode)


@seeded
@given(st.integers(0, 1000), SIDES, SIDES, KINDS)
def test_arbitrary_valid_images_are_classified(
    client: httpx.Client, seed: int, width: int, height: int, kind: tuple[str, dict[str, Any], str]
) -> None:
    name, options, mode = kind
    stream = BytesIO()
    picture(seed, width, height, mode).save(stream, name, **options)
    answer = client.post("/predict", content=stream.getvalue())
    assert answer.status_code == 200, answer.text


@seeded
@given(st.integers(0, 1000), st.sampled_from(["PNG", "BMP", "GIF", "JPEG", "WEBP"]))
def test_images_of_the_networks_size_get_the_right_classes(client: httpx.Client, seed: int, kind: str) -> None:
    data = encode(np.asarray(picture(seed, 8, 8, "L"))[..., None], kind)
    check(client.post("/predict", content=data).json(), decode(data))


@seeded
@given(st.integers(0, 1000), st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF"]), st.data())
def test_damaged_images_are_the_clients_fault(client: httpx.Client, seed: int, kind: str, data: st.DataObject) -> None:
    whole = bytearray(encode(np.asarray(picture(seed, 20, 15, "RGB")), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(1, len(whole)))
    assert client.post("/predict", content=bytes(whole[:cut])).status_code in ANY_IMAGE


PATHS = st.text(st.characters(codec="utf-8"), max_size=30).map(quote) | st.text("%/?#.0aF", max_size=9)


@seeded
@given(PATHS, st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS"]))
def test_arbitrary_paths_are_answered(client: httpx.Client, path: str, method: str) -> None:
    answer = client.request(method, f"{client.base_url}/models/{path}")
    assert answer.status_code in {307, 404, 200 if method == "GET" else 405}, answer.text


def test_after_all_that_the_server_is_as_it_was(server: Served, client: httpx.Client) -> None:
    metrics = server.metrics()
    assert metrics["resnet_inflight_requests"] == 0
    assert sum(value for series, value in metrics.items() if "worker_restarts_total" in series) == 0
    assert not server.events("API process died")
    assert client.get("/readyz").status_code == 200
