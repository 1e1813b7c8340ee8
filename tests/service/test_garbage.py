"""What requests leave behind: nothing that only the garbage collector finds, for it walks and keeps memory in between.

The server's own processes tell, by a module that Python imports first, of each collection how many objects it freed.
"""

import json
from pathlib import Path

import httpx
import pytest

from tests.service.pictures import encode, pixels, png
from tests.service.served import Served, Servers

REQUESTS, FEW = 600, 100
TELL = """
import gc, os
def tell(phase, info):
    if phase == "stop":
        with open(os.path.join({folder!r}, str(os.getpid())), "a") as file:
            file.write(str(info["collected"]) + "\\n")
gc.callbacks.append(tell)
"""


@pytest.fixture
def told(tmp_path: Path) -> Path:
    """The folder with a file of collections for each process."""
    (tmp_path / "sitecustomize.py").write_text(TELL.format(folder=str(tmp_path / "told")))
    (tmp_path / "told").mkdir()
    return tmp_path


@pytest.fixture
def telling_server(serve: Servers, told: Path, repository: Path) -> Served:
    flags = ("--model-repository", repository, "--default-model", "plain", "--api-processes", "1", "--workers", "1")
    return serve(*flags, PYTHONPATH=str(told)).ready()


def garbage(served: Served, told: Path) -> int:
    """How many objects the API process's collections have freed so far."""
    (pid,) = served.api_processes()
    file = told / "told" / str(pid)
    return sum(map(int, file.read_text().split())) if file.exists() else 0


def test_a_request_is_gone_once_it_is_answered(telling_server: Served, told: Path) -> None:
    bodies = [png(), png()[:-30], b"no image", json.dumps({"images": []}).encode(), encode(pixels(shape=(80, 80, 1)))]
    with httpx.Client(base_url=telling_server.url) as client:
        client.post("/predict", content=png())
        before = garbage(telling_server, told)
        for number in range(REQUESTS):
            client.post("/predict", content=bodies[number % len(bodies)])
    assert garbage(telling_server, told) - before < FEW
