"""Bodies: httpx writes the forms, the standard library the JSON and base64."""

import base64
import json
import tracemalloc

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BadRequest, ServiceError, TooLarge
from service.policy import BODY_PIECE_BYTES
from service.prediction import body as bodies
from service.prediction.body import Payload
from service.prediction.head import Head, Target

IMAGES = st.lists(st.binary(min_size=1, max_size=100), min_size=1, max_size=8)
NAMES = st.text(min_size=1, max_size=20)
seeded = settings(derandomize=True, deadline=None)


def parse(content_type: bytes, body: bytes, max_images: int) -> Payload:
    """The images in a body of this Content-Type."""
    head = Head("POST", Target("/predict"), b"", {b"content-type": content_type})
    return bodies.parse(head, body, max_images)


def form(*files: tuple[str, tuple[str, bytes]], **data: str) -> tuple[bytes, bytes]:
    """Content-Type and body of a form."""
    request = httpx.Request("POST", "http://server", files=list(files), data=data)
    return request.headers["content-type"].encode(), request.read()


@seeded
@given(IMAGES, NAMES)
def test_the_files_of_a_form_come_out_as_they_went_in(images: list[bytes], name: str) -> None:
    content_type, body = form(*((name, (name, image)) for image in images))
    assert parse(content_type, body, 8) == Payload(images, several=len(images) > 1)


def test_fields_that_are_no_files_are_passed_over() -> None:
    content_type, body = form(("image", ("a.png", b"image")), note="text", image="no file")
    assert parse(content_type, body, 8) == Payload([b"image"], several=False)


def test_bytes_that_look_like_the_boundary_do_not_end_a_file() -> None:
    image = b"--boundary\r\n--boundar\r\n--\r\n\r\n--boundarx--\n--boundary"
    head = b'--boundary\r\nContent-Disposition: form-data; name="x"; filename="y"\r\n\r\n'
    payload = parse(b'multipart/form-data; boundary="boundary"', head + image + b"\r\n--boundary--\r\n", 8)
    assert payload.images == [image]


@seeded
@given(IMAGES)
def test_the_images_of_json_come_out_as_they_went_in(images: list[bytes]) -> None:
    encoded = [base64.b64encode(image).decode() for image in images]
    for content_type in (b"application/json", b"Application/JSON; charset=utf-8"):
        assert parse(content_type, json.dumps({"images": encoded}).encode(), 8) == Payload(images, several=True)
    assert parse(b"application/json", json.dumps({"image": encoded[0]}).encode(), 8) == Payload(images[:1], False)


@pytest.mark.parametrize(
    "content_type", [b"", b"image/png", b"application/x-www-form-urlencoded", b"application/jsonp"]
)
def test_any_other_body_is_the_image(content_type: bytes) -> None:
    assert parse(content_type, b"image=1&x", 1) == Payload([b"image=1&x"], several=False)


def test_more_images_than_allowed_are_too_large() -> None:
    content_type, body = form(*[("image", ("a", b"x"))] * 3)
    assert len(parse(content_type, body, 3).images) == 3
    with pytest.raises(TooLarge, match="at most 2"):
        parse(content_type, body, 2)


def test_a_form_cut_anywhere_is_an_error_or_still_whole() -> None:
    content_type, body = form(("image", ("a.png", b"image")), ("image", ("b.png", b"other")))
    whole = Payload([b"image", b"other"], several=True)
    for length in range(len(body)):
        if body[length:] in (b"\r\n", b"\n"):  # what follows the last boundary
            assert parse(content_type, body[:length], 2) == whole
        else:
            with pytest.raises(BadRequest):
                parse(content_type, body[:length], 2)


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
            parse(content_type, body, 64)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(body) + (4 << 20)


@pytest.mark.parametrize("length", [70, 256, 257, 300])
def test_a_boundary_of_any_length_is_the_clients_affair(length: int) -> None:
    with pytest.raises(BadRequest):
        parse(b"multipart/form-data; boundary=" + b"x" * length, b"x", 1)


@pytest.mark.parametrize("indent", [None, 4])
@pytest.mark.parametrize("size", [1, 3 * BODY_PIECE_BYTES // 4, BODY_PIECE_BYTES, BODY_PIECE_BYTES + 2])
def test_large_images_in_json_come_out_as_they_went_in(size: int, indent: int | None) -> None:
    """Also where base64 is escaped, as PHP does with the slash and .NET with the plus sign."""
    image = bytes(range(255, -1, -1)) * (size // 256) + bytes(size % 256)
    text = base64.b64encode(image).decode()
    body = json.dumps({"images": [text, text]}, indent=indent)
    for written in (body, body.replace("/", "\\/"), body.replace("+", "\\u002B")):
        assert parse(b"application/json", written.encode(), 2) == Payload([image, image], several=True)


@pytest.mark.parametrize(
    "text", ["AA==AAAA", "AAAA" * BODY_PIECE_BYTES + "AA==" + "AAAA" * BODY_PIECE_BYTES, "AAA", "="]
)
def test_padding_ends_an_image(text: str) -> None:
    with pytest.raises(BadRequest):
        parse(b"application/json", json.dumps({"image": text}).encode(), 1)


@seeded
@given(
    st.recursive(
        st.none() | st.text() | st.sampled_from(["image", "images", "AAAA"]),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["image", "images"]), inner),
    )
)
def test_json_of_any_other_shape_is_the_clients_error(document: object) -> None:
    good = {"image": "AAAA"}, {"images": ["AAAA"]}, {"images": ["AAAA"] * 2}, {"images": ["AAAA"] * 3}
    if document in good:
        assert set(parse(b"application/json", json.dumps(document).encode(), 3).images) == {bytes(3)}
    else:
        try:
            payload = parse(b"application/json", json.dumps(document).encode(), 3)
        except (BadRequest, TooLarge):
            pass
        else:  # base64 by chance
            assert isinstance(document, dict)
            ((_, value),) = document.items()
            texts = value if payload.several else [value]
            assert [base64.b64encode(image).decode() for image in payload.images] == texts


TYPES = st.sampled_from(
    [b"multipart/form-data; boundary=x", b"multipart/form-data; boundary=\xff", b"application/json"]
)


@seeded
@given(TYPES, st.binary(max_size=200) | st.binary(max_size=100).map(lambda b: b"--x\r\n" + b))
def test_whatever_comes_is_images_or_the_clients_error(content_type: bytes, body: bytes) -> None:
    found: Payload | ServiceError
    try:
        found = parse(content_type, body, 4)
    except ServiceError as error:
        found = error
    if isinstance(found, Payload):
        assert 1 <= len(found.images) <= 4
        assert all(found.images)
    else:
        assert isinstance(found, BadRequest) or (isinstance(found, TooLarge) and body.count(b"filename") > 4)
