"""What is answered on which port."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest

from service.config.settings import SettingError, Settings
from service.http.ports import ADMIN, MAIN, PROBES, Ports
from tests.artifacts import make_slow_starter
from tests.service.commands.shell import resnet_serve
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, free_port, is_listening, until
from tests.service.wire import Wire, post

AREAS = (MAIN, PROBES, ADMIN)


def answered(**settings: object) -> list[set[str]]:
    """The areas of each port, the main one first."""
    with closing(Ports(Settings(_cli_parse_args=False, port=0, **settings))) as ports:  # type: ignore[arg-type]
        numbers = [one.getsockname()[1] for one in ports.sockets]
        return [{area for area in AREAS if ports.answers(number, area)} for number in numbers]


def test_what_has_a_port_of_its_own_is_answered_nowhere_else() -> None:
    assert answered() == [{MAIN, PROBES, ADMIN}]
    assert answered(metrics_port=0) == [{MAIN, ADMIN}, {PROBES}]
    assert answered(admin_port=0) == [{MAIN, PROBES}, {ADMIN}]
    assert answered(metrics_port=0, admin_port=0) == [{MAIN}, {PROBES}, {ADMIN}]
    both = free_port()
    assert answered(metrics_port=both, admin_port=both) == [{MAIN}, {PROBES, ADMIN}]


def test_ports_that_contradict_or_are_taken_are_errors() -> None:
    port = free_port()
    with pytest.raises(SettingError, match=f"--port {port} answers everything else"):
        Ports(Settings(_cli_parse_args=False, port=port, admin_port=port))  # type: ignore[call-arg]
    told = "choose another with --metrics-port or --admin-port"
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match=told):
        answered(metrics_port=taken.getsockname()[1])
    with pytest.raises(OSError, match=r"cannot listen on 192\.0\.2\.1:\d+: [^(]+; give an address of this machine$"):
        answered(host="192.0.2.1")  # which RFC 5737 keeps for documents


@pytest.fixture(scope="module")
def apart(serve_module: Servers, repository: Path) -> Iterator[Served]:
    """A server that answers probes on another port and another address."""
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    inside = ("--metrics-port", str(free_port()), "--admin-host", "127.0.0.2", "--admin-port", "0")
    served = serve_module(*models, *inside)
    probes = served.wait_for_event("listening")["probes"]
    until(lambda: httpx.get(probes + "/readyz", timeout=DEADLINE_S).status_code == 200, "readiness")
    return served


def test_each_port_answers_its_own_routes_and_no_others(apart: Served) -> None:
    listening = apart.wait_for_event("listening")
    main, probes, admin = listening["url"], listening["probes"], listening["admin"]
    assert "127.0.0.2" in probes
    asked = {
        (name, method, path): httpx.request(method, url + path, content=png(), timeout=DEADLINE_S).status_code
        for name, url in (("main", main), ("probes", probes), ("admin", admin))
        for method, path in (
            ("POST", "/predict"),
            ("OPTIONS", "/predict"),
            ("GET", "/models"),
            ("GET", "/docs"),
            ("GET", "/livez"),
            ("GET", "/readyz"),
            ("GET", "/metrics"),
            ("OPTIONS", "/metrics"),
        )
    }
    ours = {"main": ("/predict", "/models", "/docs"), "probes": ("/livez", "/readyz", "/metrics"), "admin": ()}
    assert asked == {key: 200 if key[2] in ours[key[0]] else 404 for key in asked}


def test_a_head_that_the_main_port_knows_is_none_on_another(apart: Served) -> None:
    probes = httpx.URL(apart.wait_for_event("listening")["probes"])
    with Wire(apart.address) as main, Wire((probes.host, probes.port or 0)) as inside:
        for _ in range(2):
            main.send(post(png()))
            assert main.answer().status == 200
        for _ in range(2):
            inside.send(post(png()))
            assert inside.answer().status == 404


def test_health_finds_the_port_of_probes(apart: Served, tmp_path: Path) -> None:
    assert resnet_serve("health", "--of-process", str(apart.process.pid), cwd=tmp_path)[0] == 0
    code, _, told = resnet_serve("health", "--metrics-port", "0", cwd=tmp_path)
    assert (code, "--metrics-port 0 is whichever is free" in told) == (2, True)


@pytest.fixture
def late(serve: Servers, tmp_path: Path) -> Served:
    """A server whose main port waits for a model that takes its time."""
    make_slow_starter(tmp_path, "slow")
    models = ("--model-repository", tmp_path, "--workers", "1", "--max-batch-size", "1")
    served = serve(*models, "--api-processes", "2", "--metrics-port", "0", "--listen-when-ready")
    served.wait_for_event("listening", when_ready=True)
    served.wait_for_event("worker started")
    return served


def test_connections_are_refused_until_predictions_can_be_answered(late: Served) -> None:
    probes = late.wait_for_event("listening")["probes"]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(late.address, timeout=DEADLINE_S)
    states = [httpx.get(probes + path, timeout=DEADLINE_S).status_code for path in ("/livez", "/readyz")]
    assert states == [200, 503]
    late.wait_for_event("ready", api_process=0)
    late.wait_for_event("ready", api_process=1)
    assert httpx.get(probes + "/readyz", timeout=DEADLINE_S).status_code == 200
    with ExitStack() as stack:
        for wire in [stack.enter_context(Wire(late.address)) for _ in range(8)]:
            wire.send(post(png()))
            assert wire.answer().status == 200
    assert late.events("request refused") == []


def test_a_port_that_another_took_meanwhile_is_told_and_tried_again(late: Served) -> None:
    with socket.create_server(late.address):
        assert "in use" in late.wait_for_event("cannot listen")["why"]
    until(lambda: is_listening(late.address), "the port to be the server's")
    with Wire(late.address) as wire:
        wire.send(post(png()))
        assert wire.answer().status == 200
