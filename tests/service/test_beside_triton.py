"""The Open Inference Protocol beside the server that it comes from: the same requests to both."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton_client
from numpy.typing import NDArray

from tests.service.pictures import pixels
from tests.service.served import DEADLINE_S, Served
from tests.service.stock import MAX_IMAGES
from tests.service.triton import triton_server

TOLERANCE = 1e-4
LENGTH = "inference-header-content-length"
IMAGES = np.stack([pixels(0), pixels(1)])
INFER = "/v2/models/plain/infer"


@pytest.fixture(scope="module")
def both(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Triton and this server, each with its client."""
    with (
        triton_server(tmp_path_factory.mktemp("triton")) as url,
        httpx.Client(base_url=url, timeout=DEADLINE_S) as theirs,
        httpx.Client(base_url=server.url, timeout=DEADLINE_S) as ours,
    ):
        yield theirs, ours


def tensor(images: NDArray[np.uint8] = IMAGES, **changes: Any) -> dict[str, Any]:
    whole = {"name": "image", "datatype": "UINT8", "shape": [*images.shape], "data": images.reshape(-1).tolist()}
    return {key: value for key, value in (whole | changes).items() if value is not ...}


def body(**request: Any) -> bytes:
    return json.dumps({"inputs": [tensor()]} | request).encode()


def output(**parameters: Any) -> list[dict[str, Any]]:
    return [{"name": "logits", "parameters": parameters}]


def binary(size: Any = IMAGES.nbytes, data: bytes = IMAGES.tobytes(), **request: Any) -> tuple[bytes, dict[str, str]]:
    """A request whose pixels stand behind its JSON."""
    head = body(inputs=[tensor(data=..., parameters={"binary_data_size": size})], **request)
    return head + data, {LENGTH: str(len(head))}


def read(answer: httpx.Response) -> tuple[dict[str, Any], list[str] | NDArray[np.float32]]:
    """The JSON of an answer without the data, and the data: classes as text, or logits."""
    length = int(answer.headers.get(LENGTH, len(answer.content)))
    document, rest = json.loads(answer.content[:length]), answer.content[length:]
    (found,) = document["outputs"]
    size = found.get("parameters", {}).get("binary_data_size")
    assert size == (len(rest) or None)
    if found["datatype"] == "FP32":
        return document, np.frombuffer(rest, "<f4") if rest else np.array(found.pop("data"), np.float32)
    found.pop("parameters", None)  # texts of numbers have different lengths
    texts = found.pop("data", None)
    while rest:
        end = 4 + int.from_bytes(rest[:4], "little")
        texts, rest = [*(texts or []), rest[4:end].decode()], rest[end:]
    return document, texts


GOOD: dict[str, tuple[bytes, dict[str, str]]] = {
    "json": (body(), {}),
    "an id": (body(id="seven"), {}),
    "nested data": (body(inputs=[tensor(data=IMAGES.tolist())]), {}),
    "no outputs": (body(outputs=[]), {}),
    "an output": (body(outputs=[{"name": "logits"}]), {}),
    "classes": (body(outputs=output(classification=3)), {}),
    "no classes": (body(outputs=output(classification=0)), {}),
    "more classes than there are": (body(outputs=output(classification=99)), {}),
    "a binary output": (body(outputs=output(binary_data=True)), {}),
    "binary outputs": (body(parameters={"binary_data_output": True}), {}),
    "binary classes": (body(outputs=output(binary_data=True, classification=2)), {}),
    "parameters of schedulers": (body(parameters={"priority": 1, "timeout": 5_000_000}), {}),
    "parameters of the client's own": (body(parameters={"colour": "red", "number": 1}), {}),
    "binary pixels": binary(),
    "parameters that are null": (
        body(inputs=[tensor(parameters=None)], outputs=[{"name": "logits", "parameters": None}]),
        {},
    ),
    "binary pixels and output": binary(outputs=output(binary_data=True)),
    "pixels alone": (IMAGES[:1].tobytes(), {LENGTH: "0"}),
}


@pytest.mark.parametrize("path", [INFER, "/v2/models/plain/versions/2/infer"])
@pytest.mark.parametrize("name", GOOD)
def test_what_triton_answers_is_answered_alike(both: tuple[httpx.Client, httpx.Client], name: str, path: str) -> None:
    content, headers = GOOD[name]
    headers = headers | {"accept-encoding": "identity"}
    theirs, ours = (client.post(path, content=content, headers=headers) for client in both)
    assert (theirs.status_code, ours.status_code) == (200, 200)
    assert ours.headers["content-type"] == theirs.headers["content-type"]
    (their_document, their_data), (our_document, our_data) = read(theirs), read(ours)
    assert our_document == their_document
    if isinstance(our_data, list):
        values, *classes = zip(*(text.split(":") for text in our_data), strict=True)
        their_values, *their_classes = zip(*(text.split(":") for text in their_data), strict=True)
        assert classes == their_classes
        our_data, their_data = np.array(values, np.float32), np.array(their_values, np.float32)
    np.testing.assert_allclose(our_data, their_data, atol=TOLERANCE)


BOTH = body(inputs=[tensor(parameters={"binary_data_size": IMAGES.nbytes})])
BAD: dict[str, tuple[bytes, dict[str, str]]] = {
    "nothing": (b"", {}),
    "no JSON": (b"{", {}),
    "an array": (b"[]", {}),
    "no inputs": (b"{}", {}),
    "empty inputs": (body(inputs=[]), {}),
    "inputs that are no list": (body(inputs=3), {}),
    "two inputs": (body(inputs=[tensor(), tensor()]), {}),
    "another input": (body(inputs=[tensor(name="other")]), {}),
    "another type": (body(inputs=[tensor(datatype="FP32")]), {}),
    "no type that there is": (body(inputs=[tensor(datatype="UINT9")]), {}),
    "fewer dimensions": (body(inputs=[tensor(shape=[2, 8, 8])]), {}),
    "another size": (body(inputs=[tensor(np.zeros((2, 7, 9, 1), np.uint8))]), {}),
    "a negative size": (body(inputs=[tensor(shape=[-2, 8, 8, 1])]), {}),
    "no image": (body(inputs=[tensor(np.zeros((0, 8, 8, 1), np.uint8))]), {}),
    "too many images": (body(inputs=[tensor(np.zeros((MAX_IMAGES + 1, 8, 8, 1), np.uint8))]), {}),
    "too few data": (body(inputs=[tensor(data=[1, 2])]), {}),
    "too many data": (body(inputs=[tensor(data=[1] * 200)]), {}),
    "fractions": (body(inputs=[tensor(data=[1.5] * IMAGES.size)]), {}),
    "negative pixels": (body(inputs=[tensor(data=[-1] * IMAGES.size)]), {}),
    "texts": (body(inputs=[tensor(data=["a"] * IMAGES.size)]), {}),
    "null": (body(inputs=[tensor(data=None)]), {}),
    **{f"no {key}": (body(inputs=[tensor(**{key: ...})]), {}) for key in ("name", "datatype", "shape", "data")},
    "another output": (body(outputs=[{"name": "other"}]), {}),
    "an output without a name": (body(outputs=[{}]), {}),
    "fewer classes than none": (body(outputs=output(classification=-1)), {}),
    "classes that are no number": (body(outputs=output(classification="3")), {}),
    "an id that is no text": (body(id=7), {}),
    "a byte too few": binary(data=IMAGES.tobytes()[:-1]),
    "a byte too many": binary(data=IMAGES.tobytes() + b"1"),
    "another size behind the JSON": binary(size=5),
    "a negative size behind the JSON": binary(size=-5),
    "JSON longer than the body": (binary()[0], {LENGTH: "999999"}),
    "a length that is no number": (binary()[0], {LENGTH: "long"}),
    "no length": (binary()[0], {}),
    "pixels in the JSON and behind it": (BOTH + IMAGES.tobytes(), {LENGTH: str(len(BOTH))}),
    "pixels of two images alone": (IMAGES.tobytes(), {LENGTH: "0"}),
    "no gzip": (b"text", {"content-encoding": "gzip"}),
}


@pytest.mark.parametrize("name", BAD)
def test_what_triton_refuses_is_refused(both: tuple[httpx.Client, httpx.Client], name: str) -> None:
    """It tells many faults of the client as its own, 500; here they are the client's."""
    content, headers = BAD[name]
    theirs, ours = (client.post(INFER, content=content, headers=headers) for client in both)
    assert theirs.status_code in (400, 500)
    assert 400 <= ours.status_code < 500
    for answer in (theirs, ours):
        assert answer.json().keys() == {"error"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v2/health/live"),
        ("GET", "/v2/health/ready"),
        ("GET", "/v2/models/plain/ready"),
        ("GET", "/v2/models/plain/versions/2/ready"),
        ("GET", "/v2/models/plain/versions/3"),
        ("GET", "/v2/models/none"),
        ("GET", "/v2/models/none/config"),
        ("POST", "/v2/models/none/infer"),
        ("POST", "/v2/models/plain/versions/3/infer"),
        ("GET", "/v2/nothing"),
        ("POST", "/v2"),
        ("POST", "/v2/models/plain"),
        ("POST", "/v2/models/plain/stats"),
        ("GET", INFER),
        ("PUT", INFER),
        ("GET", "/v2/repository/index"),
    ],
)
def test_routes_have_the_same_status(both: tuple[httpx.Client, httpx.Client], method: str, path: str) -> None:
    theirs, ours = (client.request(method, path) for client in both)
    assert ours.status_code == theirs.status_code


def test_documents_have_the_same_form(both: tuple[httpx.Client, httpx.Client]) -> None:
    theirs, ours = (client.get("/v2/models/plain").json() for client in both)
    assert ours | {"platform": ""} == theirs | {"platform": ""}
    theirs, ours = (client.get("/v2").json() for client in both)
    assert ours.keys() == theirs.keys()
    assert {*ours["extensions"]} <= {*theirs["extensions"]}
    theirs, ours = (client.get("/v2/models/plain/config").json() for client in both)
    for key in ours.keys() - {"platform", "input", "output"}:
        assert ours[key] == theirs[key]
    for side in ("input", "output"):
        assert [{key: one[key] for key in ours[side][0]} for one in theirs[side]] == ours[side]
    (theirs,), (ours,) = (client.get("/v2/models/plain/stats").json()["model_stats"] for client in both)
    assert ours.keys() == theirs.keys()
    assert ours["inference_stats"].keys() == theirs["inference_stats"].keys()
    theirs, ours = (client.post("/v2/repository/index").json() for client in both)
    (our_plain,) = (one for one in ours if one["name"] == "plain")
    assert [our_plain | {"reason": ""}] == [one | {"reason": ""} for one in theirs]


@pytest.mark.parametrize("coding", [None, "gzip", "deflate"])
def test_its_client_gets_the_same_from_both(both: tuple[httpx.Client, httpx.Client], coding: str | None) -> None:
    found = []
    for one in both:
        with triton_client.InferenceServerClient(one.base_url.netloc.decode(), network_timeout=DEADLINE_S) as client:
            image = triton_client.InferInput("image", [*IMAGES.shape], "UINT8")
            image.set_data_from_numpy(IMAGES)
            codings = {"request_compression_algorithm": coding, "response_compression_algorithm": coding}
            found.append(client.infer("plain", [image], **codings).as_numpy("logits"))
    np.testing.assert_allclose(found[1], found[0], atol=TOLERANCE)
