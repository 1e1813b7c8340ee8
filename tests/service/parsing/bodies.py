"""Bodies as clients write them, and what is found in them."""

from dataclasses import dataclass

import httpx

from service.errors import ServiceError
from service.parsing import body as bodies
from service.parsing.head import Head, Target
from tests.artifacts import SHAPE


@dataclass(frozen=True)
class Found:
    """What a body holds: for each image its bytes or its error, and its name."""

    images: list[bytes | ServiceError]
    several: bool
    files: tuple[str, ...] = ()


def found(content_type: bytes, body: bytes, max_images: int, *, with_files: bool = False) -> Found:
    """What is found in a body of this Content-Type; a lone image's error is raised."""
    head = Head("POST", Target("/predict"), b"", {b"content-type": content_type})
    payload = bodies.parse(head, body, SHAPE, max_images)
    images = [source.judge(image) for source, image in zip(payload.sources, payload.images, strict=True)]
    if not payload.several and isinstance(images[0], ServiceError):
        raise images[0]
    return Found(images, payload.several, tuple(source.file for source in payload.sources) if with_files else ())


def form(*files: tuple[str, tuple[str, bytes]], **data: str) -> tuple[bytes, bytes]:
    """Content-Type and body of a form, as httpx writes it."""
    request = httpx.Request("POST", "http://server", files=list(files), data=data)
    return request.headers["content-type"].encode(), request.read()
