"""Documents come out as the standard library reads them, without what is long, and hostile ones are refused."""

import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.parsing.sparse_json import SparseDocument, read_sparse

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 1]))
def test_a_document_without_anything_long_is_what_it_says(value: Any, indent: int | None) -> None:
    for ascii_alone in (True, False):
        document = json.dumps(value, indent=indent, ensure_ascii=ascii_alone).encode("utf-8", "surrogatepass")
        assert read_sparse(document, 300).value == value


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "numbers", [list(range(2000)), [[1, 2], [3, 4]] * 500, [[[0]]] * 800], ids=["flat", "nested", "deep"]
)
def test_long_arrays_stay_as_they_were_written(numbers: list[Any], indent: int | None) -> None:
    document = {"inputs": [{"data": numbers, "name": 'a "name"'}, {"shape": [1, 2], "data": numbers}]}
    sparse = read_sparse(json.dumps(document, indent=indent).encode(), 2)
    first, second = sparse.value["inputs"]
    assert (first["name"], second["shape"]) == ('a "name"', [1, 2])
    assert [json.loads(sparse.text_of(one["data"])) for one in (first, second)] == [numbers, numbers]


def test_long_strings_stay_as_they_were_written() -> None:
    long = "QUJD" * 1000
    sparse = read_sparse(json.dumps({"data": [long, "QQ=="], "id": "x"}).encode(), 2)
    assert [sparse.text_of(value) for value in sparse.value["data"]] == [long.encode(), b"QQ=="]
    assert sparse.value["id"] == "x"


def test_short_values_have_their_text() -> None:
    assert SparseDocument().text_of([[1, 2]]) == b"[[1,2]]"


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"{",
        b'{"a": "',
        b'{"a": "\\"',
        b'{"a": "' + b"\\\\" * 2000 + b'"}',
        b"[" + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"a": [' + b"1," * 2000 + b"{}]}",
        b"\xff\xfe{\0}\0",
        b"[" + b'"",' * 5000 + b'""]',
        b'{"a": ' + b" " * 100_000 + b"1}",
    ],
    ids=["nothing", "open", "open string", "escape", "escapes", "deep", "object", "UTF-16", "strings", "blanks"],
)
def test_what_is_malformed_or_hostile_is_refused(document: bytes) -> None:
    with pytest.raises(BadRequest):
        read_sparse(document, 8)


@pytest.mark.parametrize("part", [b"[],", b"{},", b'"",', b"1,", b"[1],"])
def test_a_large_document_takes_a_few_times_its_own_size(part: bytes) -> None:
    document = b'{"data": [' + part * (4_000_000 // len(part)) + b"0]}"
    tracemalloc.start()
    try:
        read_sparse(document, 8)
    except BadRequest:
        pass
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 4 * len(document)  # orjson would take 20 times as much for empty arrays
