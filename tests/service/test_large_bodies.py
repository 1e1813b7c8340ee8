"""Bodies as large as are taken, in whatever form they come: others are served while one is taken apart."""

import asyncio
import base64
import gzip
import random
from pathlib import Path

import pytest

from service.config.settings import Settings
from service.http.connection_state import BODY
from tests.service.test_walk import House
from tests.service.wire import post

SIZE: int = Settings.model_fields["max_body_bytes"].default
MANY_TURNS = 2
JSON, FORM = "application/json", "multipart/form-data; boundary=q"
FIELD = b'--q\r\nContent-Disposition: form-data; name="a"\r\n\r\n%s\r\n--q--\r\n'
NOISE = random.Random(0).randbytes(SIZE // 4 * 3 - 4096)
LARGE = bytes(SIZE // 4 * 3 - 4096)
HEADERS = b"".join(b"%c:%s\r\n" % (letter, b" " * 2000) for letter in b"ABCDEFG")
ESCAPED = base64.b64encode(b"\xff" * (SIZE // 8 * 3 - 4096)).replace(b"/", b"\\/")
BODIES = {
    "base64 that ends badly": (JSON, b'{"image": "%s!"}' % base64.b64encode(LARGE)),
    "escapes that end badly": (JSON, b'{"image": "%s!"}' % ESCAPED),
    "a large field that is no file": (FORM, FIELD % LARGE),
    "a compressed body": (
        f"{JSON}\r\nContent-Encoding: gzip",
        gzip.compress(b'{"image": "%s!"}' % base64.b64encode(NOISE), 1),
    ),
    "long headers": (FORM, (b"--q\r\n" + HEADERS + b"\r\n\r\n") * 120 + FIELD % b""),
}
"""All are refused once they are taken apart, so that no turn of the loop is one of the decoding."""


@pytest.mark.parametrize(("content_type", "body"), BODIES.values(), ids=BODIES)
def test_the_loop_turns_while_a_large_body_is_taken_apart(repository: Path, content_type: str, body: bytes) -> None:
    """On the loop itself it would be answered in the very call that brings its last byte, or in one turn."""
    assert len(body) <= SIZE

    async def scene() -> None:
        house = House(repository)
        await house.work_until(lambda: house.api.ready)
        turns, message = 0, post(body, "/predict", f"Content-Type: {content_type}")

        def turn() -> bool:
            nonlocal turns
            turns += 1
            return bool(house.client.received)

        for start in range(0, len(message), 1 << 18):  # as uvloop reads
            house.protocol.data_received(message[start : start + (1 << 18)])
            await asyncio.sleep(0)
        await house.work_until(turn)
        (answer,) = house.client.received
        assert answer.startswith(b"HTTP/1.1 400 "), answer
        assert turns > MANY_TURNS
        house.protocol.connection_lost(None)
        house.api.close()

    asyncio.run(asyncio.wait_for(scene(), 60))


def test_what_comes_in_tiny_chunks_is_parsed_in_several_turns(repository: Path) -> None:
    async def scene() -> None:
        house = House(repository)
        await house.work_until(lambda: house.api.ready)
        chunks = b"1\r\nx\r\n" * 40_000
        house.protocol.data_received(b"POST /predict HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        house.protocol.data_received(chunks + b"0\r\n\r\n")
        assert house.protocol._state is BODY, "all of it was parsed in one call"
        await house.work_until(lambda: house.client.received)
        (answer,) = house.client.received
        assert answer.startswith(b"HTTP/1.1 415 "), answer
        house.protocol.connection_lost(None)
        house.api.close()

    asyncio.run(asyncio.wait_for(scene(), 60))
