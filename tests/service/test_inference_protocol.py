"""The Open Inference Protocol, spoken by Triton's own client: what it gets is what the models must answer."""

import gzip
import json
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from tests.artifacts import LABELS, SHAPE, weight
from tests.service.pictures import Pixels, check, pixels, png
from tests.service.served import DEADLINE_S, Served, until
from tests.service.stock import COLOUR_SHAPE, FAILING, MAX_BODY_BYTES, MAX_IMAGES, SLOW

TOLERANCE = 1e-4  # float32 against float64

INFER = "/v2/models/plain/infer"
STATISTICS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")
COMPRESSIONS = [None, "gzip", "deflate"]


@pytest.fixture(scope="module")
def client(server: Served) -> Iterator[triton.InferenceServerClient]:
    """The real client; its timeouts are for a busy machine."""
    url = "{}:{}".format(*server.address)
    with triton.InferenceServerClient(url, connection_timeout=DEADLINE_S, network_timeout=DEADLINE_S) as client:
        yield client


@pytest.fixture
def http(server: Served) -> Iterator[httpx.Client]:
    """For requests that Triton's client does not send."""
    with httpx.Client(base_url=server.url, timeout=DEADLINE_S) as client:
        yield client


def expected(*images: Pixels) -> NDArray[np.float64]:
    """The logits of the model `plain`."""
    return np.stack([image.reshape(-1) / 255 @ weight().astype(np.float64) for image in images])


def of_pixels(*images: Pixels, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("image", [len(images), *images[0].shape], "UINT8")
    tensor.set_data_from_numpy(np.stack(images), binary_data=binary)
    return tensor


def of_files(*files: bytes) -> triton.InferInput:
    tensor = triton.InferInput("image", [len(files)], "BYTES")
    tensor.set_data_from_numpy(np.array(files, dtype=np.object_))
    return tensor


def asked(*, binary: bool = True, classes: int = 0) -> list[triton.InferRequestedOutput]:
    return [triton.InferRequestedOutput("logits", binary_data=binary, class_count=classes)]


def test_health_and_metadata(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("plain")
    assert client.is_model_ready("plain", "2")
    assert not client.is_model_ready("wrong")
    assert not client.is_model_ready("zebra")
    extensions = client.get_server_metadata()["extensions"]
    known = {"binary_tensor_data", "classification", "model_configuration", "model_repository", "statistics"}
    assert {*extensions} == known
    assert client.get_model_metadata("colour") == {
        "name": "colour",
        "versions": ["1"],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, *COLOUR_SHAPE]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 3]}],
    }


def test_the_configuration_tells_what_a_request_may_hold(client: triton.InferenceServerClient) -> None:
    for version in ("", "1"):
        assert client.get_model_config("colour", version) == {
            "name": "colour",
            "platform": "onnx_onnxv1",
            "max_batch_size": MAX_IMAGES,
            "input": [{"name": "image", "data_type": "TYPE_UINT8", "dims": [*COLOUR_SHAPE]}],
            "output": [{"name": "logits", "data_type": "TYPE_FP32", "dims": [3]}],
        }


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("n", [1, 3, MAX_IMAGES])
def test_pixels_give_logits(client: triton.InferenceServerClient, n: int, *, binary: bool) -> None:
    images = [pixels(seed) for seed in range(n)]
    answer = client.infer("plain", [of_pixels(*images, binary=binary)], outputs=asked(binary=binary), request_id="one")
    np.testing.assert_allclose(answer.as_numpy("logits"), expected(*images), atol=TOLERANCE)
    assert answer.get_response()["id"] == "one"
    assert answer.get_response()["model_version"] == "2"


def test_all_outputs_come_as_binary_data_if_none_is_named(client: triton.InferenceServerClient) -> None:
    answer = client.infer("plain", [of_pixels(pixels())], model_version="2")
    assert answer.get_output("logits")["parameters"] == {"binary_data_size": 4 * len(LABELS)}
    np.testing.assert_allclose(answer.as_numpy("logits"), expected(pixels()), atol=TOLERANCE)


@pytest.mark.parametrize("n", [1, 3])
def test_encoded_images_are_decoded(client: triton.InferenceServerClient, n: int) -> None:
    answer = client.infer("plain", [of_files(*map(png, range(n)))])
    np.testing.assert_allclose(answer.as_numpy("logits"), expected(*map(pixels, range(n))), atol=TOLERANCE)


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize(("asked_for", "given"), [(1, 1), (4, 4), (100, len(LABELS))])
def test_classes_instead_of_logits(
    client: triton.InferenceServerClient, asked_for: int, given: int, *, binary: bool
) -> None:
    images = [pixels(0), pixels(1)]
    answer = client.infer("plain", [of_pixels(*images)], outputs=asked(binary=binary, classes=asked_for))
    found = answer.as_numpy("logits").astype(str)
    assert found.shape == (2, given)
    for row, logits in zip(found, expected(*images), strict=True):
        values, indices, labels = zip(*(text.split(":") for text in row), strict=True)
        assert [*map(int, indices)] == np.argsort(-logits)[:given].tolist()
        assert list(labels) == [LABELS[int(index)] for index in indices]
        np.testing.assert_allclose([*map(float, values)], np.sort(logits)[::-1][:given], atol=TOLERANCE)


@pytest.mark.parametrize("request_coding", COMPRESSIONS)
@pytest.mark.parametrize("response_coding", COMPRESSIONS)
def test_compressed_bodies(
    client: triton.InferenceServerClient, request_coding: str | None, response_coding: str | None
) -> None:
    answer = client.infer(
        "plain",
        [of_files(png(), png(1))],
        outputs=asked(classes=len(LABELS)),
        request_compression_algorithm=request_coding,
        response_compression_algorithm=response_coding,
    )
    assert answer.as_numpy("logits").shape == (2, len(LABELS))


@pytest.mark.parametrize(("accepted", "coding"), [("gzip", "gzip"), ("deflate, gzip;q=0", "deflate"), ("br", None)])
def test_long_answers_are_compressed_where_the_client_takes_it(
    http: httpx.Client, accepted: str, coding: str | None
) -> None:
    request = json_request([pixels(seed) for seed in range(MAX_IMAGES)])
    request["outputs"] = [{"name": "logits", "parameters": {"classification": len(LABELS)}}]
    answer = http.post(INFER, json=request, headers={"accept-encoding": accepted})
    assert answer.headers.get("content-encoding") == coding
    assert answer.headers["vary"] == "accept-encoding"
    assert len(answer.json()["outputs"][0]["data"]) == MAX_IMAGES * len(LABELS)


def test_the_repository_is_listed(client: triton.InferenceServerClient) -> None:
    index = {(entry["name"], entry["version"]): entry for entry in client.get_model_repository_index()}
    assert {key: entry["state"] for key, entry in index.items()} == {
        ("plain", "2"): "READY",
        ("colour", "1"): "READY",
        ("faulty", "1"): "READY",
        ("wrong", "1"): "UNAVAILABLE",
        ("damaged", "1"): "UNAVAILABLE",
    }
    assert "golden example" in index["wrong", "1"]["reason"]


def test_only_ready_models_are_listed_where_it_is_asked(http: httpx.Client) -> None:
    entries = http.post("/v2/repository/index", json={"ready": True}).json()
    assert {entry["name"] for entry in entries} == {"plain", "colour", "faulty"}
    assert http.post("/v2/repository/index", content=b"[]").json().keys() == {"error"}


def test_statistics_count_images_batches_and_failures(client: triton.InferenceServerClient) -> None:
    before = client.get_inference_statistics("plain", "2")["model_stats"][0]
    client.infer("plain", [of_pixels(pixels(0), pixels(1))])
    with pytest.raises(InferenceServerException):
        client.infer("plain", [of_files(b"text")])
    (after,) = client.get_inference_statistics("plain")["model_stats"]
    assert after["inference_count"] - before["inference_count"] == 2
    assert 1 <= after["execution_count"] - before["execution_count"] <= 2
    grown = {
        key: after["inference_stats"][key]["count"] - before["inference_stats"][key]["count"] for key in STATISTICS
    }
    assert grown == dict.fromkeys(STATISTICS, 1) | {"cache_hit": 0, "cache_miss": 0}
    assert after["inference_stats"]["success"]["ns"] > before["inference_stats"]["success"]["ns"]
    everything = client.get_inference_statistics()["model_stats"]
    assert {one["name"] for one in everything} == {"plain", "colour", "faulty", "wrong"}


def test_statistics_tell_batches_by_their_size(client: triton.InferenceServerClient) -> None:
    """And when the last one was; the client's clock is the server's."""
    before = client.get_inference_statistics("colour")["model_stats"][0]
    began_s = time.time()
    for _ in range(3):
        client.infer("colour", [of_pixels(pixels(shape=COLOUR_SHAPE))])
    client.infer("colour", [of_pixels(pixels(0, shape=COLOUR_SHAPE), pixels(1, shape=COLOUR_SHAPE))])
    after, ended_s = client.get_inference_statistics("colour")["model_stats"][0], time.time()
    assert 1000 * began_s - 1 <= after["last_inference"] <= 1000 * ended_s + 1

    def counts(statistics: dict[str, Any], part: str) -> Counter[int]:
        return Counter({one["batch_size"]: one[part]["count"] for one in statistics["batch_stats"]})

    grown = [
        counts(after, part) - counts(before, part) for part in ("compute_input", "compute_infer", "compute_output")
    ]
    assert grown == [grown[0]] * 3
    assert grown[0] in ({1: 3, 2: 1}, {1: 5})  # the two may run one after the other
    for statistics in (before, after):
        sizes = counts(statistics, "compute_infer")
        assert sizes.total() == statistics["execution_count"]
        assert sum(size * count for size, count in sizes.items()) == statistics["inference_count"]
    before_ns, after_ns = (sum(one["compute_infer"]["ns"] for one in each["batch_stats"]) for each in (before, after))
    assert 0 < after_ns - before_ns < 1e9 * (ended_s - began_s)


def test_a_model_that_was_never_asked_has_no_last_inference(client: triton.InferenceServerClient) -> None:
    (never,) = client.get_inference_statistics("wrong")["model_stats"]
    assert (never["last_inference"], never["batch_stats"]) == (0, [])


def test_requests_of_both_kinds_run_together(server: Served, http: httpx.Client) -> None:
    """Batches of both: each gets what it asks for."""
    with ThreadPoolExecutor(6) as pool, server.paused():
        native = [pool.submit(http.post, "/models/plain/predict?top_k=2", content=png(seed)) for seed in range(3)]
        protocol = [pool.submit(http.post, INFER, json=json_request([pixels(seed)])) for seed in range(3)]
        until(lambda: server.metrics()["resnet_inflight_requests"] == 6, "six requests")
    for seed, (one, other) in enumerate(zip(native, protocol, strict=True)):
        check(one.result().json(), pixels(seed), top_k=2)
        found = other.result().json()["outputs"][0]["data"]
        np.testing.assert_allclose(found, expected(pixels(seed))[0], atol=TOLERANCE)


def json_request(images: list[Pixels], **others: Any) -> dict[str, Any]:
    tensor = {"name": "image", "datatype": "UINT8", "shape": [len(images), *images[0].shape]}
    return {"inputs": [tensor | {"data": np.stack(images).tolist()}]} | others


def test_a_body_of_pixels_alone(http: httpx.Client) -> None:
    headers = {"inference-header-content-length": "0"}
    answer = http.post(INFER, content=pixels().tobytes(), headers=headers)
    length = int(answer.headers["inference-header-content-length"])
    assert json.loads(answer.content[:length])["outputs"][0]["shape"] == [1, len(LABELS)]
    np.testing.assert_allclose(np.frombuffer(answer.content[length:], "<f4"), expected(pixels())[0], atol=TOLERANCE)


def test_no_request_of_the_protocol_is_put(http: httpx.Client) -> None:
    answer = http.put(INFER, json=json_request([pixels()]))
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert http.options(INFER).headers["allow"] == "POST, OPTIONS"
    assert http.options("/v2/repository/index").headers["allow"] == "POST, OPTIONS"
    assert http.get("/v2/repository/index").headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("model", "tensor", "status", "told"),
    [
        ("plain", of_files(png(), b"text"), "415", "image[1]"),
        ("plain", of_files(png()[:-40]), "422", "image[0]"),
        ("plain", of_files(b""), "400", "image[0]"),
        ("plain", of_pixels(pixels(shape=COLOUR_SHAPE)), "400", "[n, 8, 8, 1]"),
        ("plain", of_pixels(*[pixels()] * (MAX_IMAGES + 1)), "413", f"at most {MAX_IMAGES}"),
        ("faulty", of_pixels(pixels(first=FAILING)), "500", "log under this request id"),
        ("zebra", of_pixels(pixels()), "404", "zebra"),
        ("wrong", of_pixels(pixels()), "503", "failed to load"),
    ],
)
def test_errors_say_what_is_wrong(
    client: triton.InferenceServerClient, model: str, tensor: triton.InferInput, status: str, told: str
) -> None:
    with pytest.raises(InferenceServerException) as found:
        client.infer(model, [tensor])
    assert (found.value.status(), told in found.value.message()) == (status, True), found.value


def test_other_tensors_are_refused_by_name_and_type(client: triton.InferenceServerClient) -> None:
    floats = triton.InferInput("image", [1, *SHAPE], "FP32")
    floats.set_data_from_numpy(np.zeros((1, *SHAPE), np.float32))
    other = triton.InferInput("picture", [1, *SHAPE], "UINT8")
    other.set_data_from_numpy(np.zeros((1, *SHAPE), np.uint8))
    for tensor, told in ((floats, "FP32"), (other, "picture")):
        with pytest.raises(InferenceServerException, match=told):
            client.infer("plain", [tensor])
    with pytest.raises(InferenceServerException, match="probabilities"):
        client.infer("plain", [of_pixels(pixels())], outputs=[triton.InferRequestedOutput("probabilities")])
    with pytest.raises(InferenceServerException, match="shared memory"):
        client.infer("plain", [shared_memory()])


def shared_memory() -> triton.InferInput:
    tensor = triton.InferInput("image", [1, *SHAPE], "UINT8")
    tensor.set_shared_memory("region", 64)
    return tensor


def test_limits_and_deadlines_are_those_of_every_request(client: triton.InferenceServerClient) -> None:
    too_large = of_files(bytes(MAX_BODY_BYTES))
    with pytest.raises(InferenceServerException, match=f"limit of {MAX_BODY_BYTES} bytes"):
        client.infer("plain", [too_large])
    slow = of_pixels(pixels(first=SLOW))
    for late in ({"headers": {"X-Request-Timeout-Ms": "1"}}, {"timeout": 1000}):
        with pytest.raises(InferenceServerException) as found:
            client.infer("faulty", [slow], **late)
        assert found.value.status() == "504"


def test_requests_are_counted_by_their_route(client: triton.InferenceServerClient, server: Served) -> None:
    series = 'resnet_http_requests_total{code="200",method="POST",route="/v2/models/{model}/infer"}'
    before = server.metrics().get(series, 0)
    client.infer("plain", [of_pixels(pixels())])
    assert server.metrics()[series] == before + 1


def test_the_request_may_be_compressed_by_any_client(http: httpx.Client) -> None:
    body = gzip.compress(json.dumps(json_request([pixels()])).encode())
    answer = http.post(INFER, content=body, headers={"content-encoding": "gzip"})
    np.testing.assert_allclose(answer.json()["outputs"][0]["data"], expected(pixels())[0], atol=TOLERANCE)
