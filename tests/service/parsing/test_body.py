"""Bodies: httpx writes the forms, the standard library the JSON and base64. What other clients write of each is in
`test_form` and `test_json_document`."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import BadRequest, TooLarge
from service.policy import BODY_PIECE_BYTES
from tests.service.parsing.bodies import Found, form, found
from tests.service.pictures import b64

IMAGES = st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=8)
NAMES = st.text(min_size=1, max_size=20)


@given(IMAGES, NAMES)
def test_the_files_of_a_form_come_out_as_they_went_in(images: list[bytes], name: str) -> None:
    content_type, body = form(*((name, (name, image)) for image in images))
    assert found(content_type, body, 8) == Found(images, several=len(images) > 1)


def test_fields_that_are_no_files_are_passed_over() -> None:
    content_type, body = form(("image", ("a.png", b"image")), note="text", image="no file")
    assert found(content_type, body, 8) == Found([b"image"], several=False)


def test_bytes_that_look_like_the_boundary_do_not_end_a_file() -> None:
    image = b"--boundary\r\n--boundar\r\n--\r\n\r\n--boundarx--\n--boundary"
    head = b'--boundary\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\n'
    payload = found(b'multipart/form-data; boundary="boundary"', head + image + b"\r\n--boundary--\r\n", 8)
    assert payload.images == [image]


@given(IMAGES)
def test_the_images_of_json_come_out_as_they_went_in(images: list[bytes]) -> None:
    encoded = [b64(image) for image in images]
    for content_type in (b"application/json", b"Application/JSON; charset=utf-8"):
        assert found(content_type, json.dumps({"images": encoded}).encode(), 8) == Found(images, several=True)
    assert found(b"application/json", json.dumps({"image": encoded[0]}).encode(), 8) == Found(images[:1], False)


@pytest.mark.parametrize(
    "content_type", [b"", b"image/png", b"application/x-www-form-urlencoded", b"application/jsonp"]
)
def test_any_other_body_is_the_image(content_type: bytes) -> None:
    assert found(content_type, b"image=1&x", 1) == Found([b"image=1&x"], several=False)


def test_an_image_that_is_said_to_be_json_is_the_image() -> None:
    image = b"\x89PNG\r\n\x1a\nand so on"
    assert found(b"application/json", image, 1) == Found([image], several=False)


def test_more_images_than_allowed_are_too_large() -> None:
    content_type, body = form(*[("image", ("a", b"x"))] * 3)
    assert len(found(content_type, body, 3).images) == 3
    with pytest.raises(TooLarge, match="at most 2"):
        found(content_type, body, 2)


def test_a_form_cut_anywhere_is_an_error_or_still_whole() -> None:
    content_type, body = form(("image", ("a.png", b"image")), ("image", ("b.png", b"other")))
    whole = Found([b"image", b"other"], several=True)
    for length in range(len(body)):
        if body[length:] in (b"\r\n", b"\n"):  # what follows the last boundary
            assert found(content_type, body[:length], 2) == whole
        else:
            with pytest.raises(BadRequest):
                found(content_type, body[:length], 2)


MANY = 1 << 20
FORM = b"multipart/form-data; boundary=q"
TINY_FILE = b"--q\r\nContent-Disposition: form-data; filename=a\r\n\r\nx\r\n"


@pytest.mark.parametrize(
    ("content_type", "body", "error"),
    [
        (b"application/json", b"[" + b"1," * MANY + b"1]", BadRequest),
        (b"application/json", b'{"images": [' + b"{}," * MANY + b"{}]}", BadRequest),
        (b"application/json", b'{"images": [' + b"[" * MANY, BadRequest),
        (b"application/json", b'{"images": [' + b'"",' * MANY + b'""]}', TooLarge),
        (FORM, b"--q\r\n\r\n\r\n" * MANY + b"--q--\r\n", TooLarge),
        (FORM, TINY_FILE * (MANY // 4) + b"--q--\r\n", TooLarge),
        (FORM, b"--q\r\n\r\n" + b"\r\n--qx" * MANY, TooLarge),
        (FORM, b"--q\r\n\r\n\r\n--q" + b" " * MANY, BadRequest),
        (FORM, b"--q\r\n" + b"A: b\r\n" * 9 + b"\r\n", BadRequest),
        (FORM, b"--q\r\nA: " + b"b" * 3000 + b"\r\n\r\n", BadRequest),
    ],
    ids=["numbers", "objects", "nested", "strings", "parts", "files", "delimiters", "blanks", "headers", "header"],
)
def test_what_a_hostile_body_makes_is_bounded(content_type: bytes, body: bytes, error: type[Exception]) -> None:
    """A million values or parts would be 50 to 500 MiB; what is held beside the body is its last piece, or a copy."""
    tracemalloc.start()
    try:
        with pytest.raises(error):
            found(content_type, body, 64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body) + (4 << 20)


@pytest.mark.parametrize("length", [70, 256, 257, 300])
def test_a_boundary_of_any_length_is_the_clients_affair(length: int) -> None:
    with pytest.raises(BadRequest):
        found(b"multipart/form-data; boundary=" + b"x" * length, b"x", 1)


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("size", [1, 3 * BODY_PIECE_BYTES // 4, BODY_PIECE_BYTES, BODY_PIECE_BYTES + 2])
def test_large_images_in_json_come_out_as_they_went_in(size: int, indent: int | None) -> None:
    """Also where base64 is escaped, as PHP does with the slash and .NET with the plus sign."""
    image = bytes(range(255, -1, -1)) * (size // 256) + bytes(size % 256)
    text = b64(image)
    body = json.dumps({"images": [text, text]}, indent=indent)
    for written in (body, body.replace("/", "\\/"), body.replace("+", "\\u002B")):
        assert found(b"application/json", written.encode(), 2) == Found([image, image], several=True)


@pytest.mark.parametrize(
    "text", ["AA==AAAA", "AAAA" * BODY_PIECE_BYTES + "AA==" + "AAAA" * BODY_PIECE_BYTES, "AAAAA", "="]
)
def test_padding_ends_an_image(text: str) -> None:
    with pytest.raises(BadRequest):
        found(b"application/json", json.dumps({"image": text}).encode(), 1)


@given(
    st.recursive(
        st.none() | st.text() | st.sampled_from(["image", "images", "AAAA"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["image", "images"]), inner),
    )
)
def test_json_of_any_other_shape_is_the_clients_error(document: object) -> None:
    good = {"image": "AAAA"}, {"images": ["AAAA"]}, {"images": ["AAAA"] * 2}, {"images": ["AAAA"] * 3}
    if document in good:
        assert set(found(b"application/json", json.dumps(document).encode(), 3).images) == {bytes(3)}
    else:
        try:
            payload = found(b"application/json", json.dumps(document).encode(), 3)
        except (BadRequest, TooLarge):
            pass
        else:  # base64 by chance
            assert isinstance(document, dict)
            ((_, value),) = document.items()
            texts = value if payload.several else [value]
            assert [b64(image) for image in payload.images] == texts


TYPES = st.sampled_from(
    [b"multipart/form-data; boundary=x", b"multipart/form-data; boundary=\xff", b"application/json"]
)


@given(TYPES, st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: b"--x\r\n" + b))
def test_whatever_comes_is_images_or_the_clients_error(content_type: bytes, body: bytes) -> None:
    try:
        holds = found(content_type, body, 4)
    except BadRequest:
        pass
    except TooLarge:
        assert body.count(b"filename") > 4
    else:
        assert 1 <= len(holds.images) <= 4
        assert all(holds.images)
