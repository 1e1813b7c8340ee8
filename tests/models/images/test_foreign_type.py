import struct
from base64 import b64encode
from urllib.parse import urlencode

import numpy as np
import pytest
from PIL import Image

from models.images.foreign_type import foreign_name
from models.images.image_type import image_type
from tests.models.images.pictures import encode, noise

PNG, JPEG = (encode(noise("RGB"), kind) for kind in ("PNG", "JPEG"))
FIELD = "a picture in base64 in the field of a form that is no multipart/form-data"


def base_media(brand: bytes) -> bytes:
    """The first box of an ISO base media file, and some more."""
    return struct.pack(">I4s4sI", 16, b"ftyp", brand, 0) + bytes(50)


def form(boundary: str) -> bytes:
    return f'--{boundary}\r\nContent-Disposition: form-data; name="image"\r\n\r\n'.encode() + PNG


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encode(Image.new("L", (9, 9)), "PDF"), "PDF"),
        (encode(Image.new("L", (16, 16)), "JPEG2000"), "JPEG 2000"),
        (encode(Image.new("L", (16, 16)), "ICO"), "an icon (ICO)"),
        (encode(Image.new("RGB", (16, 16)), "PPM"), "Netpbm (PBM, PGM, PPM)"),
        (encode(Image.new("RGB", (16, 16)), "DDS"), "DirectDraw (DDS)"),
        (np.lib.format.magic(1, 0) + bytes(60), "a NumPy array"),
        (bytes(128) + b"DICM\2\0\0\0", "DICOM"),
        (b"\xef\xbb\xbf\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!doctype html><p>404", "HTML"),
        (base_media(b"mp42"), "a film (MP4, QuickTime)"),
        (base_media(b"crx "), "a raw photograph (CR3)"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "sound (WAVE)"),
        (b"iVBORw0KGgoAAAANSUhEUg", "PNG in base64"),
        (b'{\n  "image": "x"}', "JSON"),
        (b"https://example.com/cat.jpg", "an address, not what is there"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "a pointer of Git LFS, not the file"),
        (b"\0\5\x16\7\0\2\0\0Mac OS X", "what macOS keeps beside a file (AppleDouble, ._NAME)"),
        (form("----WebKitFormBoundaryx7"), "a form without its Content-Type"),
        (urlencode({"image": b64encode(PNG)}).encode(), FIELD),
        (urlencode({"image[]": b"data:image/jpeg;base64," + b64encode(JPEG)}).encode(), FIELD),
        (urlencode({"image": b64encode(JPEG)}).encode(), FIELD),
        (b"BM=\0\0\0", None),
        (b"--hello", None),
        (b"P10 is a street", None),
        (b"RIFF\x24\0\0\0WEBP", None),
        (b"hello", None),
        (b"", None),
    ],
)
def test_files_that_are_never_taken_have_a_name(data: bytes, name: str | None):
    assert foreign_name(data) == name


@pytest.mark.parametrize(
    ("damaged", "name"),
    [
        (PNG.decode("latin-1").encode(), "a PNG that was sent as text, not as bytes"),
        (PNG.decode("utf-8", "replace").encode(), "a PNG that was read as text, not as bytes"),
        (JPEG.decode("latin-1").encode(), "a JPEG that was sent as text, not as bytes"),
        (
            JPEG.decode("utf-8", "replace").encode(),
            "a JPEG, or another file, that was read as text, not as bytes",
        ),
        (PNG.replace(b"\r\n", b"\n"), "a PNG whose line ends were changed on its way"),
        (PNG.replace(b"\n", b"\r\n"), "a PNG whose line ends were changed on its way"),
        (
            PNG.translate(None, b"\r\n\0"),
            "a PNG whose line ends are gone, as curl -d sends it: take --data-binary",
        ),
    ],
)
def test_what_a_client_did_to_a_picture_is_named(damaged: bytes, name: str):
    """As JavaScript does with `readFileSync(file, "utf8")`, and FTP in its text mode."""
    assert image_type(damaged) is None
    assert foreign_name(damaged) == name
