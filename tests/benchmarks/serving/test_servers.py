import contextlib
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.serving.processes import Session
from benchmarks.serving.servers import SERVERS, NotReadyError, Running, ServerError, ServerSpec, free_port, started
from benchmarks.serving.workloads import Workload, raw
from tests.benchmarks.conftest import Handler, Respond

Start = Callable[[Respond], int]
CLASSES = [{"label": "owl", "probability": 0.75}, {"label": "cat"}, {"label": "dog"}]


def asked(spec: ServerSpec, workload: Workload, port: int) -> Running:
    """As if this process were the server, for it is alive."""
    return Running(spec, workload, port, Session(os.getsid(0)), Path(os.devnull))


def answering(status: int, classes: list[dict[str, object]]) -> Respond:
    return lambda handler, _: handler.answer(status, json.dumps({"predictions": classes}).encode())


@pytest.mark.parametrize(
    ("name", "path", "content_type"),
    [
        ("ours", "/predict?top_k=3", "image/png"),
        ("litserve", "/predict", "multipart/form-data"),
        ("mosec-8", "/inference", "image/png"),
    ],
)
def test_each_server_is_asked_in_its_own_way(
    name: str, path: str, content_type: str, workload: Workload, http_server: Start
):
    seen: list[tuple[str, str, bytes]] = []

    def note(handler: Handler, body: bytes) -> None:
        seen.append((handler.path, handler.headers["Content-Type"].partition(";")[0], body))
        answering(200, CLASSES)(handler, body)

    assert asked(SERVERS[name], workload, http_server(note)).ask() == "owl"
    ((asked_path, asked_type, body),) = seen
    assert (asked_path, asked_type) == (path, content_type)
    assert workload.image in body


@pytest.mark.parametrize(
    ("status", "classes", "error", "complaint"),
    [
        (503, CLASSES, NotReadyError, "predictions"),
        (408, CLASSES, NotReadyError, "predictions"),
        (500, CLASSES, ServerError, "ours answers 500"),
        (200, CLASSES[:2], ServerError, "ours answers 2 classes instead of 3"),
    ],
)
def test_an_answer_that_is_none_is_told(
    status: int,
    classes: list[dict[str, object]],
    error: type[Exception],
    complaint: str,
    workload: Workload,
    http_server: Start,
):
    with pytest.raises(error, match=complaint):
        asked(SERVERS["ours"], workload, http_server(answering(status, classes))).ask()


def test_a_server_that_is_not_ready_is_asked_again(workload: Workload, http_server: Start):
    statuses = [503, 503, 200]
    port = http_server(lambda handler, body: answering(statuses.pop(0), CLASSES)(handler, body))
    asked(SERVERS["ours"], workload, port).await_answer(30.0)
    assert statuses == []


def test_a_server_that_ends_is_told_with_its_log(workload: Workload, tmp_path: Path):
    spec = ServerSpec("broken", "benchmarks.no_such_module", (), "/predict", raw)
    with pytest.raises(ServerError, match=r"(?s)^broken: .*No module named benchmarks\.no_such_module"):
        contextlib.ExitStack().enter_context(started(spec, workload, tmp_path))


def test_a_free_port_can_be_taken():
    with socket.socket() as taken:
        address = ("127.0.0.1", free_port())
        taken.bind(address)
        assert taken.getsockname() == address  # not just any port, as 0 is


def test_a_server_is_described_by_its_command():
    assert SERVERS["ours-2api"].describe() == "python -m service --api-processes 2"
    assert (
        SERVERS["mosec-8"]
        .describe()
        .startswith("PEER_BATCH=8 PEER_WAIT_MS=2 python -m benchmarks.serving.peers.mosec_app ")
    )
