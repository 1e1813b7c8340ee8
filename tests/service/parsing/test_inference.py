"""What an inference request may be, and what is told of one that is wrong; the whole server speaks with a real client
in tests/service/test_inference_protocol.py."""

import json
from typing import Any

import pytest

from service.errors import BadRequest, TooLarge
from service.parsing.head import Head, parse_target
from service.parsing.inference import InferencePayload, OutputTensor, read_inference

SHAPE = (2, 3, 1)
PIXELS = bytes(range(6))
MAX_IMAGES = 4


def read(document: Any, binary: bytes = b"", **headers: str) -> InferencePayload:
    text = document if isinstance(document, bytes) else json.dumps(document).encode()
    target = parse_target(b"/v2/models/plain/infer")
    assert target is not None
    fields = {b"inference-header-content-length": str(len(text)).encode()} if binary else {}
    fields |= {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    return read_inference(Head("POST", target, b"", fields), text + binary, SHAPE, MAX_IMAGES)


def tensor(**changes: Any) -> dict[str, Any]:
    given = {"name": "image", "datatype": "UINT8", "shape": [1, *SHAPE], "data": list(PIXELS)} | changes
    return {name: value for name, value in given.items() if value is not None}


def test_pixels_of_one_image() -> None:
    payload = read({"inputs": [tensor()]})
    assert (payload.images, payload.are_pixels, payload.several) == ([PIXELS], True, False)
    assert payload.outputs == [OutputTensor(is_binary=False)]
    assert (payload.id, payload.timeout_ns) == ("", 0)


def test_parameters_may_be_null() -> None:
    given = tensor() | {"parameters": None}
    assert read({"inputs": [given], "outputs": [{"name": "logits", "parameters": None}]}).images == [PIXELS]


def test_all_that_can_be_asked_for() -> None:
    outputs = [
        {"name": "logits"},
        {"name": "logits", "parameters": {"classification": 3, "binary_data": False, "other": "x"}},
    ]
    request = {"id": "7", "model_name": "plain", "parameters": {"binary_data_output": True, "timeout": 5, "x": "y"}}
    payload = read(request | {"inputs": [tensor()], "outputs": outputs}, accept_encoding="gzip, br;q=0")
    assert payload.outputs == [OutputTensor(is_binary=True), OutputTensor(is_binary=False, classes=3)]
    assert (payload.id, payload.timeout_ns, payload.accepted_codings) == ("7", 5000, frozenset({"gzip"}))


def test_binary_pixels_of_several_images() -> None:
    given = tensor(shape=[2, *SHAPE], data=None, parameters={"binary_data_size": 12})
    assert read({"inputs": [given]}, PIXELS + PIXELS[::-1]).images == [PIXELS, PIXELS[::-1]]


def test_a_body_that_is_nothing_but_pixels() -> None:
    payload = read(PIXELS, inference_header_content_length="0")
    assert (payload.images, payload.outputs) == ([PIXELS], [OutputTensor(is_binary=True)])


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_encoded_images(shape: list[int]) -> None:
    payload = read({"inputs": [tensor(datatype="BYTES", shape=shape, data=["QUJD", "QQ=="])]})
    assert (payload.images, payload.are_pixels) == ([b"ABC", b"A"], False)
    given = tensor(datatype="BYTES", shape=shape, data=None, parameters={"binary_data_size": 10})
    assert read({"inputs": [given]}, b"\1\0\0\0A\1\0\0\0B").images == [b"A", b"B"]


def test_an_image_that_is_not_base64_is_named() -> None:
    payload = read({"inputs": [tensor(datatype="BYTES", shape=[2], data=["QUJD", "*"])]})
    first, second = (source.judge(None) for source in payload.sources)
    assert (first, "image[1]" in str(second)) == (None, True)


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (b"text", "malformed"),
        ([], "request: Input should be a valid dictionary$"),
        ({}, "inputs: "),
        ({"inputs": []}, "inputs: "),
        ({"inputs": [tensor(), tensor()]}, "inputs: "),
        *(
            (
                {"inputs": [tensor(shape=shape)]},
                r"inputs\.0\.shape: must be an array of whole numbers from 0 to 2\^63 - 1",
            )
            for shape in (["1"], [-1], [1.5], [True], 3, [10**20], [10**4000])
        ),
        ({"inputs": [tensor(shape=[10**400])]}, "malformed: number is infinity"),
        ({"inputs": [tensor(name="x")]}, "the only one is 'image'"),
        ({"inputs": [tensor(datatype="FP32")]}, "'FP32'; send pixels as UINT8"),
        ({"inputs": [tensor(shape=[*SHAPE])]}, r"it must be \[n, 2, 3, 1\]"),
        ({"inputs": [tensor(shape=[0, *SHAPE], data=[])]}, "one image or more"),
        ({"inputs": [tensor(shape=[])]}, "one image or more"),
        ({"inputs": [tensor(datatype="BYTES", shape=[1, 2], data=["QQ=="])]}, r"it must be \[n, 1\]"),
        ({"inputs": [tensor(datatype="BYTES", shape=[2], data=["QQ=="])]}, "has 1 elements, and by its shape 2"),
        ({"inputs": [tensor(datatype="BYTES", shape=[1], data=[7] * 2000)]}, "an array of strings"),
        ({"id": "7" * 2000, "inputs": [tensor()]}, "the id of the request has more than 1024 bytes"),
        ({"inputs": [tensor(data=[1, 2])]}, "has 2 elements, and by its shape 6"),
        ({"inputs": [tensor(data=[1] * 7)]}, "more than the 6 elements"),
        ({"inputs": [tensor(data=None)]}, "has no data"),
        ({"inputs": [tensor(data=None, parameters={"binary_data_size": 6})]}, "0 bytes behind its JSON"),
        ({"inputs": [tensor(parameters={"shared_memory_region": "x"})]}, "shared memory"),
        ({"inputs": [tensor()], "outputs": [{"name": "x"}]}, "the only one is 'logits'"),
        ({"inputs": [tensor()], "outputs": [{"name": "logits", "parameters": {"classification": -1}}]}, "outputs.0"),
        ({"inputs": [tensor()], "outputs": [{"name": "logits"}] * 3}, "outputs"),
    ],
)
def test_what_is_wrong_is_told(document: Any, told: str) -> None:
    with pytest.raises(BadRequest, match=told):
        read(document)


def test_binary_data_has_the_size_that_is_told() -> None:
    for given in (tensor(), tensor(data=None, parameters={"binary_data_size": 5})):
        with pytest.raises(BadRequest, match="6 bytes behind its JSON"):
            read({"inputs": [given]}, PIXELS)
    with pytest.raises(BadRequest, match="has both"):
        read({"inputs": [tensor(parameters={"binary_data_size": 6})]}, PIXELS)
    with pytest.raises(BadRequest, match="the whole body has"):
        read(PIXELS, inference_header_content_length="7")
    with pytest.raises(BadRequest, match="must be the number"):
        read(PIXELS, inference_header_content_length="x")
    with pytest.raises(BadRequest, match="must be the number"):
        read(PIXELS, inference_header_content_length="9" * 5000)
    with pytest.raises(BadRequest, match="its Content-Type is JSON"):
        read(PIXELS, inference_header_content_length="0", content_type="application/json")
    with pytest.raises(BadRequest, match="has 5 elements"):
        read(PIXELS[1:], inference_header_content_length="0")


def test_too_many_images_are_told_apart() -> None:
    with pytest.raises(TooLarge):
        read({"inputs": [tensor(shape=[MAX_IMAGES + 1, *SHAPE], data=list(PIXELS * (MAX_IMAGES + 1)))]})
