"""A limit of requests holds for the whole server, and what it tells to wait is enough."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx

from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Servers
from tests.service.test_api_keys import ALICE, line

BURST = 5


def test_processes_together_hold_the_limit_of_a_key(serve: Servers, repository: Path, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(line("alice", "predict", ALICE) + line("bob", "predict", "bobs-key"))
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    limit = ("--rate-limit", "0.1", "--rate-burst", str(BURST), "--api-key-file", tmp_path / "keys")
    served = serve(*models, *limit, "--api-processes", "3").ready()

    def ask(key: str, path: str = "/predict") -> httpx.Response:
        headers = {"x-api-key": key}  # each on a connection of its own, which any process may accept
        return httpx.post(served.url + path, content=png(), headers=headers, timeout=DEADLINE_S)

    began_s = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: ask(ALICE), range(24)))
    taken = sum(answer.status_code == 200 for answer in answers)
    assert BURST <= taken <= BURST + (time.monotonic() - began_s) * 0.1
    refusals = [answer for answer in answers if answer.status_code != 200]
    assert {answer.status_code for answer in refusals} == {429}
    assert all(1 <= int(answer.headers["retry-after"]) <= 10 for answer in refusals)
    assert {answer.json()["code"] for answer in refusals} == {"too_many_requests"}
    assert ask("bobs-key").status_code == 200
    assert [served.status(path) for path in ("/livez", "/readyz", "/metrics")] == [200] * 3
    assert served.metrics()['resnet_key_requests_total{decision="limited",key="alice"}'] == len(refusals)
    assert served.stop() == 0


def test_who_waits_as_long_as_told_is_answered(serve: Servers, repository: Path) -> None:
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    served = serve(*models, "--rate-limit", "1", "--rate-burst", "1").ready()
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
        answer = client.get("/models")
        while answer.status_code == 200:  # a busy machine may take seconds for one
            answer = client.get("/models")
        assert answer.status_code == 429
        time.sleep(int(answer.headers["retry-after"]))
        assert client.post("/predict", content=png()).status_code == 200
    assert served.stop() == 0


def test_no_header_gives_a_client_another_address(serve: Servers, repository: Path) -> None:
    """Whoever asks through a proxy on this machine could write one anew for each key that is tried."""
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    served = serve(*models, "--rate-limit", "0.001", "--rate-burst", "1", "--access-log", "all").ready()
    said = ("192.0.2.1", "192.0.2.2, 192.0.2.3", "192.0.2.4:99", "[2001:db8::1]:99", "not:an:address", "unknown")
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
        assert client.get("/models").status_code == 200
        answers = [client.get("/models", headers={"x-forwarded-for": one, "forwarded": f"for={one}"}) for one in said]
    assert [answer.status_code for answer in answers] == [429] * len(said)
    assert served.stop() == 0
    assert {event["client"].rpartition(":")[0] for event in served.events("request")} == {"127.0.0.1"}
