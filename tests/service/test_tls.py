"""TLS, asked by curl, openssl and httpx: handshakes, client certificates, and new certificates while requests run."""

import json
import resource
import signal
import socket
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from io import BytesIO
from pathlib import Path

import httpx
import pytest
import trustme

from tests.artifacts import make_artifact
from tests.service.certificates import Files, write_certificate
from tests.service.commands.shell import resnet_serve
from tests.service.pictures import check, pixels, png
from tests.service.served import DEADLINE_S, Served, Servers, free_port, until
from tests.service.wire import Answer, get, post, read_answer

PAUSE_S = 2.5
SCRIPT = "/docs/swagger-ui-bundle.js"


def tls_flags(files: Files) -> tuple[str | Path, ...]:
    return ("--tls-certificate", files.certificate, "--tls-key", files.key)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return write_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def served(serve_module: Servers, repository: Path, files: Files) -> Served:
    """A server that speaks TLS, with probes in the clear of client certificates beside it."""
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    times = ("--header-timeout", "1", "--keep-alive-timeout", str(10 * DEADLINE_S), "--grace", "60")
    served = serve_module(*models, *tls_flags(files), *times)
    until(lambda: status(files, served.url + "/readyz") == 200, "readiness")
    return served


def https(files: Files) -> httpx.Client:
    return httpx.Client(verify=ssl.create_default_context(cafile=str(files.root)), timeout=DEADLINE_S)


def status(files: Files, url: str) -> int:
    """Status of a GET on a connection of its own; 0 without an answer."""
    with https(files) as client:
        try:
            return client.get(url).status_code
        except httpx.TransportError:
            return 0


def shown(address: tuple[str, int]) -> str:
    """The certificate that a new connection is shown, as PEM."""
    return ssl.get_server_certificate(address, timeout=DEADLINE_S)


def handshake(served: Served, *flags: str) -> int:
    """openssl's exit code."""
    host, port = served.address
    command = ["openssl", "s_client", "-connect", f"{host}:{port}", *flags]
    return subprocess.run(command, input=b"Q\n", capture_output=True, timeout=DEADLINE_S, check=False).returncode


def test_curl_is_answered_and_trusts_the_certificate(served: Served, files: Files) -> None:
    assert served.url.startswith("https://")
    command = ["curl", "-sS", "--data-binary", "@-", "--cacert", str(files.root), f"{served.url}/predict"]
    done = subprocess.run(command, input=png(), capture_output=True, timeout=DEADLINE_S, check=True)
    assert b'"predictions"' in done.stdout


def test_the_protocols_of_today_are_spoken_and_no_older_ones(served: Served) -> None:
    assert [handshake(served, flag) for flag in ("-tls1_2", "-tls1_3")] == [0, 0]
    assert handshake(served, "-tls1_1", "-cipher", "ALL:@SECLEVEL=0") != 0


def test_requests_of_every_size_follow_each_other_on_a_connection(served: Served, files: Files) -> None:
    with https(files) as client:
        for body in (png(3), png(3) + bytes(300_000), png(3)):  # bytes behind a PNG are no part of it
            check(client.post(f"{served.url}/predict", content=body).json(), pixels(3))
        assert client.post(f"{served.url}/predict", content=b"no image").status_code == 415
        parts = [("file", ("a.png", png(i))) for i in range(5)]
        assert len(client.post(f"{served.url}/predict", files=parts).json()["results"]) == 5
        assert client.get(f"{served.url}/models").json()["models"]


def test_a_refusal_reaches_a_client_that_is_still_sending(served: Served, files: Files) -> None:
    context = ssl.create_default_context(cafile=str(files.root))
    with (
        socket.create_connection(served.address, DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as connection,
    ):
        connection.sendall(post(b"", "/predict", "X-Long: " + "x" * (1 << 17)))
        answer = b"".join(iter(lambda: connection.recv(1 << 16), b""))
    assert answer.startswith(b"HTTP/1.1 431 ")


def slow_answer(served: Served, files: Files, request: bytes, then: Callable[[], object] = lambda: None) -> Answer:
    """The last answer of a connection, for a client that pauses for longer than the server waits for a goodbye.

    It does so when the answer has begun and `then` was called. Little of the rest has room in the kernels meanwhile:
    the client's packets and buffer are small, and so is the server's buffer.
    """
    context = ssl.create_default_context(cafile=str(files.root))
    with socket.socket() as plain:
        plain.settimeout(DEADLINE_S)
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        plain.connect(served.address)
        with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
            connection.sendall(request)
            got = connection.recv(1 << 14)
            then()
            time.sleep(PAUSE_S)
            got += b"".join(iter(lambda: connection.recv(1 << 14), b""))
    return read_answer(BytesIO(got))


def test_a_slow_client_has_its_last_answer_whole(serve: Servers, files: Files, tmp_path: Path) -> None:
    """Where it asks for the connection's end, and where the server stops."""
    make_artifact(tmp_path, "wordy", labels=tuple(f"{'word ' * 3000}{i}" for i in range(80)))
    flags = (*tls_flags(files), "--workers", "1", "--header-timeout", "1", "--grace", "60")
    served = serve("--model-repository", tmp_path, *flags)
    until(lambda: status(files, served.url + "/readyz") == 200, "readiness")
    last = post(png(), "/predict?top_k=80", "Connection: close")
    assert len(json.loads(slow_answer(served, files, last).body)["predictions"]) == 80
    assert len(slow_answer(served, files, get(SCRIPT, "Connection: close")).body) > 1 << 20
    stop = partial(served.signal, signal.SIGTERM)
    assert len(json.loads(slow_answer(served, files, post(png(), "/predict?top_k=80"), stop).body)["predictions"]) == 80
    assert served.wait() == 0


@pytest.mark.parametrize(
    "message",
    [post(png(), "/predict", "Connection: close"), get("/livez", "Connection: close")],
    ids=["ours", "FastAPI's"],
)
def test_a_client_that_does_not_answer_the_goodbye_is_not_waited_for(
    served: Served, files: Files, message: bytes
) -> None:
    context = ssl.create_default_context(cafile=str(files.root))
    with context.wrap_socket(socket.create_connection(served.address, DEADLINE_S), server_hostname="127.0.0.1") as own:
        own.sendall(message)
        while own.recv(1 << 14):
            pass
        with socket.socket(fileno=own.detach()) as plain:
            plain.settimeout(DEADLINE_S)
            assert plain.recv(1) == b""


def test_what_is_no_handshake_costs_its_own_connection(served: Served, files: Files) -> None:
    before = served.events(level="error")
    with socket.create_connection(served.address, DEADLINE_S) as silent:
        with socket.create_connection(served.address, DEADLINE_S) as plain:
            plain.sendall(post(png()))
            while plain.recv(1 << 16):
                pass
        assert status(files, served.url + "/livez") == 200
        assert silent.recv(1) == b""  # after --header-timeout
    assert served.events(level="error") == before


def test_predict_from_the_shell_over_tls(
    served: Served, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "1.png").write_bytes(png())
    ask = ("predict", "--url", served.url, "1.png")
    assert resnet_serve(*ask, cwd=tmp_path)[0] == 1  # nobody vouches for the certificate
    monkeypatch.setenv("SSL_CERT_FILE", str(files.root))
    assert resnet_serve(*ask, cwd=tmp_path)[0] == 0


def test_health_asks_over_tls(served: Served, files: Files, tmp_path: Path) -> None:
    port = str(served.address[1])
    assert resnet_serve("health", "--port", port, *tls_flags(files), cwd=tmp_path)[0] == 0
    assert resnet_serve("health", "--port", port, cwd=tmp_path)[0] == 1


def test_a_drain_waits_for_no_handshake(serve: Servers, repository: Path, tmp_path: Path) -> None:
    files = write_certificate(tmp_path)
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    served = serve(*models, *tls_flags(files), "--header-timeout", "100", "--grace", "60")
    with https(files) as client:
        until(lambda: client.get(served.url + "/readyz").status_code == 200, "readiness")
        with socket.create_connection(served.address, DEADLINE_S) as silent:
            assert client.get(served.url + "/livez").status_code == 200  # on a connection that was accepted after it
            assert status(files, served.url + "/livez") == 200
            assert served.stop() == 0
            assert silent.recv(1) == b""


def test_clients_show_their_certificates_but_not_to_probes(
    serve: Servers, repository: Path, files: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = trustme.CA()
    own, strange = write_certificate(tmp_path / "own", authority, "alice"), write_certificate(tmp_path / "strange")
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    port = free_port()
    flags = (*tls_flags(files), "--tls-client-ca", own.root, "--metrics-port", str(port))
    served = serve(*models, *flags)
    inside = served.wait_for_event("listening")["probes"]
    until(lambda: status(files, inside + "/readyz") == 200, "readiness")

    def ask(of: Files | None) -> int:
        context = ssl.create_default_context(cafile=str(files.root))
        if of:
            context.load_cert_chain(of.certificate, of.key)
        with httpx.Client(verify=context, timeout=DEADLINE_S) as client:
            return client.post(f"{served.url}/predict", content=png()).status_code

    assert ask(own) == 200
    for refused in (None, strange):
        with pytest.raises((httpx.TransportError, ssl.SSLError)):
            ask(refused)

    (tmp_path / "1.png").write_bytes(png())
    monkeypatch.setenv("SSL_CERT_FILE", str(files.root))
    shell = ("predict", "--url", served.url, "1.png")
    for shown, expected in ((own, 0), (strange, 1)):
        named = ("--client-certificate", shown.certificate, "--client-key", shown.key)
        assert resnet_serve(*shell, *named, cwd=tmp_path)[0] == expected
    assert resnet_serve(*shell, cwd=tmp_path)[0] == 1
    code, _, told = resnet_serve(*shell, "--client-certificate", own.certificate, cwd=tmp_path)
    assert (code, "needs both --client-certificate and --client-key" in told) == (2, True)
    code, _, told = resnet_serve(*shell, *named[:3], own.key, cwd=tmp_path)
    assert (code, f"--client-key {own.key}: the key is not that of the certificate" in told) == (2, True)

    assert resnet_serve("health", *flags, cwd=tmp_path)[0] == 0
    code, _, told = resnet_serve("health", *flags[:-2], "--port", str(port), cwd=tmp_path)
    assert (code, "--metrics-port" in told) == (2, True)
    assert served.stop() == 0


def test_a_certificate_that_is_not_valid_by_its_dates_is_told(serve: Servers, repository: Path, tmp_path: Path) -> None:
    past, future = (datetime.now(UTC).replace(microsecond=0) + timedelta(days=days) for days in (-1, 30))
    files = write_certificate(tmp_path / "tls", expires=past)
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", *tls_flags(files))
    served = serve(*flags)
    assert served.wait_for_event("certificate not valid now")["reason"] == "it has expired"
    served.wait_for_event("ready")
    write_certificate(tmp_path / "tls", expires=future)
    served.signal(signal.SIGHUP)
    served.wait_for_event("certificates changed")
    with httpx.Client(verify=ssl.create_default_context(cafile=str(files.root)), timeout=DEADLINE_S) as client:
        expiry = f"resnet_certificate_expiry_timestamp_seconds {future.timestamp()}"
        until(lambda: expiry in client.get(f"{served.url}/metrics").text, "the date of the new one")
    write_certificate(tmp_path / "tls", expires=past)
    served.signal(signal.SIGHUP)
    until(lambda: len(served.events("certificates changed")) == 2, "the third certificate")
    until(lambda: len(served.events("certificate not valid now")) == 2, "its warning")


def test_certificates_are_exchanged_under_load_without_a_failed_request_or_a_dropped_connection(
    serve: Servers, repository: Path, tmp_path: Path
) -> None:
    authority = trustme.CA()
    files = write_certificate(tmp_path, authority)
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    served = serve(*models, *tls_flags(files), "--api-processes", "2")
    until(lambda: status(files, served.url + "/readyz") == 200, "readiness")
    old = shown(served.address)
    statuses: Counter[int] = Counter()
    stop = threading.Event()

    def ask(*, always_anew: bool) -> None:
        client = https(files)
        while not stop.is_set():
            answer = client.post(f"{served.url}/predict", content=png(3))
            statuses[answer.status_code] += 1
            if always_anew:
                client.close()
                client = https(files)
        client.close()

    def answered(more: int) -> None:
        enough = statuses[200] + more
        until(lambda: statuses[200] >= enough or not all(thread.is_alive() for thread in threads), "answers")

    threads = [threading.Thread(target=ask, kwargs={"always_anew": anew}) for anew in (False, False, True)]
    for thread in threads:
        thread.start()
    answered(30)
    context = ssl.create_default_context(cafile=str(files.root))
    with (
        socket.create_connection(served.address, DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as kept,
    ):
        write_certificate(tmp_path, authority)
        served.signal(signal.SIGHUP)
        until(lambda: len(served.events("certificates changed")) == 2, "both processes to have the certificate")
        answered(30)
        assert all(shown(served.address) == shown(served.address) != old for _ in range(8))  # by either process
        kept.sendall(post(png()))
        assert kept.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
    new = shown(served.address)
    files.key.write_text("half a key")
    served.signal(signal.SIGHUP)
    assert "--tls-key" in served.wait_for_event("certificates not changed")["reason"]
    answered(30)
    stop.set()
    for thread in threads:
        thread.join(DEADLINE_S)
    assert statuses.keys() == {200}
    assert shown(served.address) == new
    assert served.stop() == 0


def test_a_process_without_descriptors_shows_the_new_certificate_once_it_has_some(
    serve: Servers, repository: Path, tmp_path: Path
) -> None:
    files = write_certificate(tmp_path)
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    served = serve(*models, *tls_flags(files), "--api-processes", "1")
    until(lambda: status(files, served.url + "/readyz") == 200, "readiness")
    old, (api,) = shown(served.address), served.api_processes()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    write_certificate(tmp_path)
    resource.prlimit(api, resource.RLIMIT_NOFILE, (3, hard))
    served.signal(signal.SIGHUP)
    assert "Too many open files" in served.wait_for_event("certificates not changed", api_process=0)["reason"]
    resource.prlimit(api, resource.RLIMIT_NOFILE, (hard, hard))
    served.wait_for_event("certificates changed", api_process=0)
    assert shown(served.address) != old
    assert served.stop() == 0
