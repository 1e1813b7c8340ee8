"""Arbitrary bytes and arbitrary valid images at the running server: right answers or the client's error, never 500."""

from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from models.artifact.artifact import read_artifact
from models.images.decoder import Preprocessor
from models.images.errors import CorruptImage, ImageTooLarge, UnsupportedImage
from tests.service.pictures import b64, check, decode, encode
from tests.service.served import Served
from tests.service.stock import MAX_PIXELS

seeded = settings(max_examples=200)

MAGIC = st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 ", b"GIF89a", b"BM"])
PACKED = st.sampled_from([b"", b"--x\r\n", b'{"image":"', b'{"images":[{}'])
MEMORY_BYTES = 1 << 28  # that a server may use for decoding, at the least
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


@pytest.fixture(scope="module")
def decoder(repository: Path) -> Preprocessor:
    """The default model's, here."""
    return Preprocessor(read_artifact(repository / "plain" / "1").metadata.preprocessing, MAX_PIXELS)


def status_of(image: bytes, decoder: Preprocessor) -> int:
    """What a request with this image gets: what the decoder, called here, finds."""
    assume(decoder.memory_bytes(image) < MEMORY_BYTES)  # else that is told before anything is decoded
    try:
        decoder(image)
    except UnsupportedImage:
        return 415
    except ImageTooLarge:
        return 413
    except CorruptImage:
        return 422
    return 200


def ask(client: httpx.Client, image: bytes, wrapping: str) -> httpx.Response:
    """Send an image as it is, in a form or in JSON."""
    if wrapping == "form":
        return client.post("/predict", files={"image": ("picture", image)})
    if wrapping == "json":
        return client.post("/predict", json={"image": b64(image)})
    return client.post("/predict", content=image, headers={"content-type": "image/png"})


WRAPPINGS = st.sampled_from(["none", "form", "json"])


@seeded
@given(MAGIC, st.binary(min_size=1, max_size=2000), WRAPPINGS)
def test_arbitrary_bytes_get_what_the_decoder_finds(
    client: httpx.Client, decoder: Preprocessor, magic: bytes, rest: bytes, wrapping: str
) -> None:
    answer = ask(client, magic + rest, wrapping)
    assert answer.status_code == status_of(magic + rest, decoder), answer.text
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


@seeded
@given(PACKED, st.binary(max_size=2000), st.sampled_from(["application/json", "multipart/form-data; boundary=x"]))
def test_arbitrary_forms_and_json_are_bad_requests(
    client: httpx.Client, beginning: bytes, rest: bytes, content_type: str
) -> None:
    answer = client.post("/predict", content=beginning + rest, headers={"content-type": content_type})
    assert answer.status_code == 400, answer.text


@seeded
@given(st.text(st.characters(codec="utf-8"), max_size=20), st.binary(min_size=1, max_size=20))
def test_arbitrary_queries_are_bad_requests(client: httpx.Client, value: str, image: bytes) -> None:
    assume(not value.strip().isdecimal())
    answer = client.post(f"/predict?top_k={quote(value, safe='')}", content=image)
    assert answer.status_code == 400, answer.text


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
@given(st.integers(0, 1000), st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "GIF"]), WRAPPINGS, st.data())
def test_damaged_images_get_what_the_decoder_finds(
    client: httpx.Client, decoder: Preprocessor, seed: int, kind: str, wrapping: str, data: st.DataObject
) -> None:
    whole = bytearray(encode(np.asarray(picture(seed, 20, 15, "RGB")), kind))
    for _ in range(data.draw(st.integers(1, 4))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    image = bytes(whole[: data.draw(st.integers(1, len(whole)))])
    assert ask(client, image, wrapping).status_code == status_of(image, decoder)


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=30)


@seeded
@given(NAMES, st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
def test_arbitrary_names_of_models_are_not_found(client: httpx.Client, name: str, method: str) -> None:
    models = {model["name"] for model in client.get("/models").json()["models"]}  # of which hypothesis finds some here
    assume(name not in {".", "..", *models})  # the first two are resolved by a client
    answer = client.request(method, f"/models/{quote(name, safe='')}/predict", content=b"x")
    assert answer.status_code == 404, answer.text


@seeded
@given(st.text("%/?#.0aF", max_size=9), st.sampled_from(["GET", "POST", "PUT", "DELETE"]))
def test_arbitrary_paths_are_not_found(client: httpx.Client, path: str, method: str) -> None:
    answer = client.request(method, f"/nowhere/{path}")
    assert answer.status_code == 404, answer.text


def test_after_all_that_the_server_is_as_it_was(server: Served, client: httpx.Client) -> None:
    metrics = server.metrics()
    assert metrics["resnet_inflight_requests"] == 0
    assert sum(value for series, value in metrics.items() if "worker_restarts_total" in series) == 0
    assert not server.events("API process died")
    assert client.get("/readyz").status_code == 200
