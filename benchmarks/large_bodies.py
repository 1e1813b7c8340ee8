"""Bodies about as large as a server takes, of every kind that it reads."""

import gzip
import io
import json
import struct
from base64 import b64encode
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from PIL import Image

LIMIT = 16 << 20  # --max-body-bytes
MOST_IMAGES = 64  # --max-images-per-request
PIXELS = [64, 28, 28, 1]
PREDICT, INFER = "/predict", "/v2/models/mnist-residual/infer"
JSON, FORM, RAW = "application/json", "multipart/form-data; boundary=b", "application/octet-stream"


class Body(NamedTuple):
    """What is sent, in chunks of so many bytes where there are any."""

    path: str
    content_type: str
    content: bytes
    more: str = ""
    chunk: int = 0

    def message(self) -> bytes:
        """The whole request."""
        head = f"POST {self.path} HTTP/1.1\r\nHost: a\r\nContent-Type: {self.content_type}\r\n{self.more}"
        if not self.chunk:
            return f"{head}Content-Length: {len(self.content)}\r\n\r\n".encode() + self.content
        parts = (self.content[at : at + self.chunk] for at in range(0, len(self.content), self.chunk))
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
        return f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunks + b"0\r\n\r\n"


Makers = dict[str, Callable[[], Body]]
"""What makes a body, by its name: each is large, and made when it is needed."""


def bodies() -> Makers:
    """Of every kind one that is about as large as is taken."""
    return forms() | json_documents() | pictures() | compressed_bodies() | chunked() | tensors()


def forms() -> Makers:
    """Of many parts, of one, and of as many images as are taken."""
    return {
        "empty form parts": lambda: form(b"", LIMIT // 58),
        "one form field": lambda: Body(PREDICT, FORM, field(b"x" * (LIMIT - 200), b"") + b"--b--\r\n"),
        "64 images in a form": lambda: form(noise(LIMIT // MOST_IMAGES - 500), MOST_IMAGES),
    }


def json_documents() -> Makers:
    """Of many values, of deep ones, and of images."""
    return {
        "tiny JSON values": lambda: json_body(images("0", LIMIT // 2 - 20)),
        "tiny JSON texts": lambda: json_body(images('""', LIMIT // 3 - 20)),
        "tiny JSON fields": lambda: json_body("{" + ",".join(f'"{n:07}":0' for n in range(LIMIT // 12 - 20)) + "}"),
        "deep JSON": lambda: json_body("[" * (LIMIT - 20)),
        "deep JSON in images": lambda: json_body(images("[" * (LIMIT - 40))),
        "JSON of blanks": lambda: json_body("{" + " " * (LIMIT - 20)),
        "JSON of escapes": lambda: json_body(image("\\u0041" * (LIMIT // 6 - 20))),
        "base64 of one image": lambda: json_body(image(base64(noise(LIMIT * 3 // 4 - 99)))),
        "base64 in lines": lambda: json_body(image("A\\n" * (LIMIT // 3 - 20))),
        "64 images in JSON": lambda: json_body(
            images(f'"{base64(noise(LIMIT * 3 // 4 // MOST_IMAGES - 99))}"', MOST_IMAGES)
        ),
    }


def pictures() -> Makers:
    """The image itself."""
    return {
        "one image": lambda: Body(PREDICT, RAW, noise(LIMIT - 99)),
        "50 megapixels in a PNG": lambda: Body(PREDICT, RAW, encoded(np.zeros((7000, 7000), np.uint8))),
    }


def compressed_bodies() -> Makers:
    """What is, or becomes, about as large as is taken; one becomes much larger."""
    return {
        "zeros, compressed": lambda: compressed(RAW, bytes(LIMIT - 99)),
        "more zeros, compressed": lambda: compressed(RAW, bytes(1 << 30)),
        "tiny JSON values, compressed": lambda: compressed(JSON, images("0", LIMIT // 2 - 20).encode()),
        "noise, compressed": lambda: compressed(RAW, noise(LIMIT - 9999), level=1),
    }


def chunked() -> Makers:
    """As many chunks as can be."""
    return {
        "chunks of one byte": lambda: Body(PREDICT, RAW, noise(LIMIT // 8), chunk=1),
        "chunks of one byte in JSON": lambda: Body(PREDICT, JSON, b"{" + b" " * (LIMIT // 8), chunk=1),
    }


def tensors() -> Makers:
    """Of the Open Inference Protocol: pixels or encoded images, as JSON or behind it."""
    return {
        "pixels of 64 images, as JSON numbers": lambda: numbers(64 * 28 * 28),
        "too many pixels, as JSON numbers": lambda: numbers(LIMIT // 2 - 99),
        "too many pixels, binary": lambda: binary("UINT8", PIXELS, bytes(LIMIT - 999)),
        "64 images, binary": lambda: binary(
            "BYTES", [MOST_IMAGES], with_length(noise(LIMIT // MOST_IMAGES - 99)) * MOST_IMAGES
        ),
        "empty elements, binary": lambda: binary("BYTES", [LIMIT // 4 - 99], bytes(LIMIT - 999)),
        "a long JSON head, binary": lambda: Body(
            INFER, RAW, b"[" * (LIMIT - 999), f"Inference-Header-Content-Length: {LIMIT - 999}\r\n"
        ),
    }


def field(content: bytes, name: bytes = b'; filename="a"') -> bytes:
    """One part of a form."""
    return b'--b\r\nContent-Disposition: form-data; name="a"%b\r\n\r\n%b\r\n' % (name, content)


def form(content: bytes, parts: int) -> Body:
    """The same part so often."""
    return Body(PREDICT, FORM, (field(content) * parts)[: LIMIT - 99] + b"--b--\r\n")


def json_body(text: str) -> Body:
    """A text that is sent as JSON."""
    return Body(PREDICT, JSON, text.encode())


def image(text: str) -> str:
    """The JSON document of one image in base64."""
    return f'{{"image": "{text}"}}'


def images(value: str, count: int = 1) -> str:
    """The JSON document of so many equal images."""
    return f'{{"images": [{",".join([value] * count)}]}}'


def compressed(content_type: str, content: bytes, level: int = 9) -> Body:
    """What is sent with gzip."""
    return Body(PREDICT, content_type, gzip.compress(content, level), "Content-Encoding: gzip\r\n")


def numbers(count: int) -> Body:
    """So many pixels as JSON, said to be those of 64 digits."""
    data = ",".join(["0"] * count)
    tensor = f'{{"name": "image", "datatype": "UINT8", "shape": {PIXELS}, "data": [{data}]}}'
    return Body(INFER, JSON, f'{{"inputs": [{tensor}]}}'.encode())


def binary(datatype: str, shape: list[int], content: bytes) -> Body:
    """One tensor behind its JSON."""
    parameters = {"binary_data_size": len(content)}
    tensor = {"name": "image", "datatype": datatype, "shape": shape, "parameters": parameters}
    head = json.dumps({"inputs": [tensor]}).encode()
    return Body(INFER, RAW, head + content, f"Inference-Header-Content-Length: {len(head)}\r\n")


def with_length(content: bytes) -> bytes:
    """An element of a binary tensor."""
    return struct.pack("<I", len(content)) + content


def noise(size: int) -> bytes:
    """A BMP of at most so many bytes: what decodes quickly and does not compress."""
    height = max(1, (size - 54) // 3000)
    width = min(1000, (size - 54) // 3 // height // 4 * 4)
    return encoded(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8), "BMP")


def encoded(pixels: np.ndarray, kind: str = "PNG") -> bytes:
    """A file with these pixels."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


def base64(content: bytes) -> str:
    """As JSON takes it."""
    return b64encode(content).decode()
