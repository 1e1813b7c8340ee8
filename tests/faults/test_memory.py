"""Pictures that take much memory: no set of permitted ones ends a process, whatever limit the machine has."""

import struct
import threading
import zlib
from collections import Counter
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.models.images.pictures import chunk, encode
from tests.service.served import DEADLINE_S, Servers

MIB = 1 << 20
LIMIT_MIB, DECODE_MIB = 1024, 256
PATIENT = {"X-Request-Timeout-Ms": "60000"}


def transparent_png(side: int) -> bytes:
    """A few hundred kilobytes that declare side x side transparent pixels, and hold them."""
    packer = zlib.compressobj(9)
    data = b"".join(packer.compress(b"\0" + b"\x80" * (side * 4)) for _ in range(side)) + packer.flush()
    header = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND")


def saved(mode: str, side: int, kind: str, **options: object) -> bytes:
    return encode(Image.new(mode, (side, side)), kind, **options)


@pytest.fixture
def group(memory_group: Path) -> Path:
    """A control group whose processes have LIMIT_MIB between them."""
    name = "memory.max" if (memory_group / "memory.max").exists() else "memory.limit_in_bytes"
    (memory_group / name).write_text(str(LIMIT_MIB * MIB))
    return memory_group


def test_no_set_of_permitted_pictures_ends_a_process(group: Path, serve: Servers) -> None:
    served = serve("--workers", "1", "--decode-memory", str(DECODE_MIB * MIB)).ready()
    for pid in served.processes():
        (group / "cgroup.procs").write_text(str(pid))
    processes = sorted(served.processes())
    fits = [transparent_png(5000), saved("P", 4500, "GIF"), saved("RGB", 5000, "JPEG"), saved("RGBA", 3000, "WEBP")]
    too_large = [transparent_png(7000), saved("RGBA", 7000, "WEBP"), saved("RGB", 7000, "JPEG", progressive=True)]
    answers: list[tuple[bytes, httpx.Response]] = []

    def ask(picture: bytes) -> None:
        answer = httpx.post(served.url + "/predict", content=picture, headers=PATIENT, timeout=DEADLINE_S)
        answers.append((picture, answer))

    threads = [threading.Thread(target=ask, args=(picture,)) for picture in (fits + too_large) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Counter(answer.status_code for picture, answer in answers if picture in fits) == {200: 3 * len(fits)}
    refused = [answer for picture, answer in answers if picture in too_large]
    assert {answer.status_code for answer in refused} == {413}
    assert all(f"at most {DECODE_MIB} are allowed" in answer.json()["detail"] for answer in refused)
    assert sorted(served.processes()) == processes


def test_too_little_memory_is_told_at_the_start(group: Path, serve: Servers) -> None:
    name = "memory.max" if (group / "memory.max").exists() else "memory.limit_in_bytes"
    (group / name).write_text(str(120 * MIB))
    joining = ("sh", "-c", f'echo $$ > {group}/cgroup.procs; exec "$@"', "sh")
    served = serve("--workers", "2", "--log-format", "json", within=joining)
    assert served.wait() == 2
    (event,) = served.events("not started")
    assert "there are 120 MiB of memory, and 2 workers with these models need more than 12" in event["reason"]
    assert "--workers" in event["reason"]
