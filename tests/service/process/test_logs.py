"""What a process writes to standard error, ours and its libraries' alike."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import httpx
import pytest

from tests.service.pictures import b64, png
from tests.service.served import DEADLINE_S, Servers, environment, free_port, run_command, until
from tests.service.stock import FAILING
from tests.service.wire import Wire, post

CODE = """
import logging, sys
import litserve, structlog
from service.process.logs import configure_logs
log = structlog.get_logger()
configure_logs(*sys.argv[1:])
log.info("said", n=1)
logging.getLogger("uvicorn.error").info("what uvicorn says of its start")
logging.getLogger("library").warning("of another %s", "make")
logging.getLogger("litserve.loops").error("of LitServe's")
try:
    1 / 0
except ZeroDivisionError:
    log.exception("failed")
"""


def written(log_format: str, level: str) -> str:
    """Standard error, which is no terminal."""
    command = [sys.executable, "-c", CODE, log_format, level]
    return subprocess.run(command, capture_output=True, text=True, check=True).stderr


@pytest.mark.parametrize("log_format", ["json", "auto"])
def test_machines_read_a_document_a_line(log_format: str) -> None:
    records = list(map(json.loads, written(log_format, "info").splitlines()))
    assert [(record["event"], record["level"]) for record in records] == [
        ("said", "info"),
        ("of another make", "warning"),
        ("of LitServe's", "error"),
        ("failed", "error"),
    ]
    assert records[0]["n"] == 1
    assert all(record["timestamp"].endswith("Z") for record in records)
    assert "ZeroDivisionError: division by zero" in records[3]["exception"]


def test_people_read_words() -> None:
    text = written("console", "info")
    assert "said" in text
    assert "of another make" in text
    assert "\nZeroDivisionError: division by zero" in text
    assert not text.startswith("{")
    assert "\x1b" not in text  # colours are for terminals


SHORT = """
import asyncio, sys, threading
import structlog
from service.process.logs import configure_logs, log_crash
configure_logs(sys.argv[1], "info")
async def full(*_):
    asyncio.get_running_loop().call_soon(open, "/dev/full/nothing")
    asyncio.get_running_loop().call_exception_handler({"message": "no callback", "exception": MemoryError()})
asyncio.run(full())
try:
    raise OSError(24, "Too many open files")
except OSError as error:
    structlog.get_logger().exception("failed")
    structlog.get_logger().error("failed", exc_info=error, why="it has a reason already")
threading.stack_size(1 << 46)
@log_crash
def crash():
    threading.Thread(target=print).start()
crash()
"""


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_shortage_has_a_reason_and_no_traceback(log_format: str) -> None:
    command = [sys.executable, "-c", SHORT, log_format]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stderr
    assert text.count("Traceback") == 1, "that of what is no shortage"
    if log_format == "json":
        records = [json.loads(line) for line in text.splitlines()]
        assert [(record["event"], record.get("why")) for record in records if "exception" not in record] == [
            ("no callback", "out of memory"),
            ("failed", "[Errno 24] Too many open files"),
            ("failed", "it has a reason already"),
            ("crashed", "can't start new thread"),
        ]
        assert re.fullmatch(r"threading\.py:\d+ start", records[-1]["where"])


def test_what_is_below_the_level_is_not_written() -> None:
    records = list(map(json.loads, written("json", "error").splitlines()))
    assert [record["event"] for record in records] == ["of LitServe's", "failed"]


CRASH = """
import multiprocessing, sys, threading, warnings
from service.process.logs import configure_logs, log_crash
configure_logs(sys.argv[1], sys.argv[2])
warnings.warn("of the library")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
forked = multiprocessing.get_context("fork").Process(target=log_crash(lambda: [][0]))
forked.start()
forked.join()
assert forked.exitcode == 1
raise OSError("of the main thread")
"""


def test_warnings_and_crashes_are_documents_too() -> None:
    command = [sys.executable, "-W", "always", "-c", CRASH, "json", "info"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    warning, thread, forked, main = map(json.loads, ended.stderr.splitlines())
    assert ended.returncode == 1
    assert "of the library" in warning["event"]
    assert [(record["event"], record["level"]) for record in (thread, forked, main)] == [("crashed", "critical")] * 3
    assert "ZeroDivisionError" in thread["exception"]
    assert "IndexError" in forked["exception"]
    assert "of the main thread" in main["exception"]


# Before there is a server


@pytest.mark.parametrize(
    ("arguments", "variables", "code", "words"),
    [
        (["--model-repository", "/nowhere"], {}, 1, "/nowhere"),
        (["serve", "--log-format", "json", "--model-repository", "/nowhere"], {}, 1, "/nowhere"),
        (["--log-format=json", "--workers", "-1"], {"RESNET_SERVE_LOG_FORMAT": "console"}, 2, "--workers"),
        (["--worker", "1"], {}, 2, "--worker"),
        (["--port"], {"RESNET_SERVE_LOG_FORMAT": "json"}, 2, "--port"),
        ([], {"RESNET_SERVE_WORKER": "1"}, 2, "RESNET_SERVE_WORKER"),
        (["--log-format", "yaml"], {}, 2, "--log-format"),
    ],
)
def test_why_it_does_not_start_is_one_document(
    arguments: list[str], variables: dict[str, str], code: int, words: str
) -> None:
    ended = run_command(*arguments, **variables)
    (record,) = map(json.loads, ended.stderr.splitlines())
    assert (ended.returncode, ended.stdout) == (code, "")
    assert (record["event"], record["level"]) == ("not started", "critical")
    assert words in record["reason"]


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [
        (["--log-format", "console", "--model-repository", "/nowhere"], {}),
        (["--model-repository", "/nowhere"], {"RESNET_SERVE_LOG_FORMAT": "console"}),
        (["check", "/nowhere"], {}),
    ],
)
def test_people_read_why_it_does_not_start(arguments: list[str], variables: dict[str, str]) -> None:
    assert run_command(*arguments, **variables).stderr == (
        "resnet-serve: the model repository /nowhere is no directory: give a folder of <model>/<version>/model.onnx\n"
    )


def test_people_on_a_terminal_read_words_unless_they_ask_for_documents() -> None:
    reader, writer = pty.openpty()
    for arguments in ([], ["--log-format", "json"]):
        command = [sys.executable, "-m", "service", "--model-repository", "/nowhere", *arguments]
        subprocess.run(command, env=environment(), stderr=writer, timeout=DEADLINE_S, check=False)
        said = os.read(reader, 4096).decode()
        assert said.startswith("{" if arguments else "resnet-serve: the model repository")


def test_it_tells_its_version() -> None:
    ended = run_command("--version")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"resnet-serve {version('resnet-serve')}\n", "")


# A server's life


def of_kind(records: list[dict[str, Any]], **fields: object) -> list[dict[str, Any]]:
    return [record for record in records if fields.items() <= record.items()]


def test_a_life_is_told_from_its_start_to_its_counts(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", "--api-processes", "1")
    served = serve(*flags).ready()
    served.wait_for_event("ready", api_process=0)
    (process,) = served.api_processes()
    assert served.events("API process started") == of_kind(served.events(), index=0, pid=process)
    for _ in range(3):
        assert httpx.post(served.url + "/predict", content=png()).status_code == 200
    answers = [httpx.post(served.url + "/predict", content=b"text").json() for _ in range(20)]
    wrong = [httpx.post(served.url + "/models/faulty/predict", content=png(first=FAILING)).json() for _ in range(2)]
    body = {"images": [b64(image) for image in (png(), b"text")]}
    assert httpx.post(served.url + "/predict", json=body).status_code == 200
    lost = httpx.get(served.url + "/nowhere").json()
    refused = {"event": "request refused", "model": "plain", "version": "2", "code": "unsupported_media_type"}
    until(
        lambda: sum(line.get("count", 1) for line in of_kind(served.events(), **refused)) == 20 + 1, "what was folded"
    )
    os.kill(process, signal.SIGKILL)
    until(lambda: len(served.events("API process started")) == 2, "its successor")
    served.wait_for_event("ready", api_process=0)
    assert served.stop() == 0
    records = [json.loads(line) for line in served.lines]  # every line is a document
    assert records[-1]["event"] == "stopped"
    assert records[-1]["exit_code"] == 0
    ended = {"ok": 3 + 1, "client_error": 20, "server_error": 2, "shed": 0, "expired": 0, "cancelled": 0}
    assert records[-1]["requests"] == ended
    assert not served.events("request")  # the access log, which is off by default
    refusals = of_kind(records, **refused)
    assert refusals[0]["request_id"] == answers[0]["request_id"]
    assert refusals[0]["detail"] == answers[0]["detail"]
    assert of_kind(records, status=404, code="not_found", detail=lost["detail"], level="info")
    (failure,) = of_kind(records, event="request failed", request_id=wrong[0]["request_id"], level="error")
    assert "InternalError" in failure["exception"]


def test_a_bad_form_has_one_line_and_no_librarys(serve: Servers, repository: Path) -> None:
    served = serve("--model-repository", repository, "--default-model", "plain", "--workers", "1").ready()
    headers = {"content-type": "multipart/form-data; boundary=x"}
    assert httpx.post(served.url + "/predict", content=b"--x\r\n\x83\r\n", headers=headers).status_code == 400
    served.wait_for_event("request refused", code="bad_request")
    assert not served.events(level="warning")


# The access log

TRACE = "0af7651916cd43dd8448eb211c80319c"


def test_each_request_has_a_line_with_what_its_answer_tells(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", "--api-processes", "1")
    served = serve(*flags, "--access-log", "all").ready()
    body = {"images": [b64(image) for image in (png(), b"text")]}
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
        trace = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "x-request-id": "mine"}
        good = client.post("/predict", content=png(), headers=trace).json()
        mixed = client.post("/models/plain/versions/2/predict", json=body).json()
        text = client.post("/predict", content=b"text").json()
        missing = client.post("/models/none/predict", content=png()).json()
        assert client.get("/models").status_code == 200
        unknown = client.get("/none").json()
        with served.paused():
            late = client.post("/predict", content=png(), headers={"x-request-timeout-ms": "2000"}).json()
            with Wire(served.address) as leaving:
                leaving.send(post(png(), "/predict", "X-Request-ID: left"))
                until(lambda: served.metrics()["resnet_inflight_requests"] == 1, "the request that is left")
            until(lambda: served.metrics()["resnet_inflight_requests"] == 0, "its end")
    with Wire(served.address) as stranger:
        stranger.send(b"NO HTTP\r\n\r\n")
        malformed = json.loads(stranger.answer().body)
    assert served.stop() == 0
    beside = ("/readyz", "/metrics")
    lines = {line["request_id"]: line for line in served.events("request") if line["route"] not in beside}
    told = ("method", "route", "model", "version", "status", "outcome", "images", "bytes")
    found = {name: tuple(line.get(field) for field in told) for name, line in lines.items()}
    of_plain, of_none, size = ("plain", "2"), ("", ""), len(png())
    listing = next(line for line in lines.values() if line["route"] == "/models")
    assert found == {
        "mine": ("POST", "/predict", *of_plain, 200, "ok", 1, size),
        mixed["request_id"]: ("POST", "/models/{model}/versions/{version}/predict", *of_plain, 200, "ok", 2, size + 4),
        text["request_id"]: ("POST", "/predict", *of_plain, 415, "client_error", 1, 4),
        missing["request_id"]: ("POST", "/models/{model}/predict", *of_none, 404, "client_error", 0, 0),
        listing["request_id"]: ("GET", "/models", *of_none, 200, "ok", 0, 0),
        unknown["request_id"]: ("GET", "", *of_none, 404, "client_error", 0, 0),
        late["request_id"]: ("POST", "/predict", *of_plain, 504, "expired", 1, size),
        "left": ("POST", "/predict", *of_plain, None, "cancelled", 1, size),
        malformed["request_id"]: ("", "", *of_none, 400, "client_error", 0, 0),
    }
    assert all(line["client"].startswith("127.0.0.1:") for line in lines.values())
    assert lines["mine"]["trace_id"] == TRACE
    assert lines["mine"]["batch_size"] == good["batch_size"] == 1
    for stage in ("read", "decode", "queue", "inference"):  # the rest was measured before the answer was written
        assert lines["mine"]["timings_ms"][stage] == pytest.approx(good["timings_ms"][stage], abs=0.0011)
    assert lines[mixed["request_id"]]["rejected"] == ["unsupported_media_type"]
    for problem in (text, missing, unknown, late, malformed):
        assert (lines[problem["request_id"]]["code"]) == problem["code"]
        assert (lines[problem["request_id"]]["detail"]) == problem["detail"]


def test_people_read_the_access_log_on_a_terminal_whatever_the_level(repository: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    flags = ("--model-repository", str(repository), "--default-model", "plain", "--workers", "1", "--port", str(port))
    reader, writer = pty.openpty()
    command = [sys.executable, "-m", "service", *flags, "--access-log", "all", "--log-level", "error"]
    with subprocess.Popen(command, env=environment(COLUMNS="80"), stderr=writer) as server:
        os.close(writer)
        with os.fdopen(reader, "rb") as log:
            try:
                until(lambda: _is_ready(url, log), "readiness")
                httpx.post(f"{url}/predict", content=png(), timeout=DEADLINE_S)
                said = next(line for line in log if b"/predict" in line).decode()
            finally:
                server.terminate()
    words = re.sub(r"\x1b\[[0-9;]*m", "", said)
    assert re.match(r"20\d\d-\d\d-\d\dT[0-9:.]+Z \[info +\] request ", words)
    assert "route=/predict" in words
    assert "status=200" in words


def _is_ready(url: str, log: BinaryIO) -> bool:
    """By a probe, for which a line is read: one that found no room would be lost."""
    try:
        status = httpx.get(f"{url}/readyz", timeout=DEADLINE_S).status_code
    except httpx.TransportError:
        return False
    log.readline()
    return status == 200
