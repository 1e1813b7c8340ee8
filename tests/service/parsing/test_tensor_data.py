"""Elements come out as NumPy and Triton's client write them."""

import base64
import json
from typing import Any

import numpy as np
import pytest
from tritonclient.utils import serialize_byte_tensor

from service.errors import BadRequest, ServiceError
from service.parsing.sparse_json import read_sparse
from service.parsing.tensor_data import read_elements, read_numbers, read_strings


@pytest.mark.parametrize("shape", [(1,), (784,), (2, 8, 8, 3), (1, 300, 300, 1)])
@pytest.mark.parametrize("written_as", [{}, {"indent": 1}, {"separators": (",", ":")}], ids=["", "lines", "compact"])
def test_numbers_nested_and_flat(shape: tuple[int, ...], written_as: dict[str, Any]) -> None:
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    for written in (values.tolist(), values.ravel().tolist()):
        assert read_numbers(json.dumps(written, **written_as).encode(), values.size) == values.tobytes()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"7",
        b"[1,]",
        b"[1 2]",
        b"[1[2]]",
        b"[256]",
        b"[-1]",
        b"[1.5]",
        b"[1e400]",
        b"[99999999999999999999]",
        b'["1"]',
        b"[null]",
        b"[true]",
        b"[7, false]",
        b"[{}]",
        b"[1,2,3,4,5]",
        b"[" + b"0" * 300_000 + b"]",
    ],
)
def test_what_is_no_array_of_so_many_bytes_is_refused(text: bytes) -> None:
    with pytest.raises(BadRequest):
        read_numbers(text, 4)


@pytest.mark.parametrize(("text", "numbers"), [(b"[]", b""), (b"[1,2]", b"\1\2")])
def test_fewer_numbers_are_the_callers_to_count(text: bytes, numbers: bytes) -> None:
    assert read_numbers(text, 4) == numbers


@pytest.mark.parametrize("elements", [[b"a"], [b"", b"\0" * 100_000, b"abc"]])
def test_elements_as_the_client_writes_them(elements: list[bytes]) -> None:
    written = serialize_byte_tensor(np.array(elements, dtype=np.object_)).item()
    assert read_elements(written, 3) == elements


@pytest.mark.parametrize("data", [b"\1", b"\1\0\0\0", b"\2\0\0\0a", b"\xff\xff\xff\xffa"])
def test_elements_that_are_cut_off_are_refused(data: bytes) -> None:
    with pytest.raises(BadRequest, match="element 0"):
        read_elements(data, 1)


def test_no_more_elements_are_made_than_the_shape_has() -> None:
    """Sixteen MiB of empty ones took a second of the interpreter's time."""
    with pytest.raises(BadRequest, match="more than the 2 elements"):
        read_elements(bytes(8) + b"\1\0\0\0a" + b"\xff\xff\xff\xff", 2)


def strings(values: Any) -> list[bytes | ServiceError]:
    sparse = read_sparse(json.dumps({"data": values}).encode(), 8)
    return list(read_strings(sparse.value["data"], sparse))


@pytest.mark.parametrize("size", [3, 5000])
def test_strings_are_base64_flat_or_in_arrays_of_one(size: int) -> None:
    image = bytes(range(256)) * (size // 256 + 1)
    text = base64.b64encode(image).decode()
    assert strings([text, f"data:image/png;base64,{text}"]) == [image, image]
    assert strings([[text], [text]]) == [image, image]


def test_a_string_that_is_none_fails_alone() -> None:
    good, *others = strings(["QUJD", "*", 7, ["QUJD", "QUJD"], 1234, True, None])  # as written the last are base64
    assert good == b"ABC"
    assert [type(one) for one in others] == [BadRequest] * 6


def test_strings_that_are_no_array_are_refused() -> None:
    with pytest.raises(BadRequest):
        strings("QUJD")
