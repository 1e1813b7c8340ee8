"""A real Prometheus that scrapes a server, and what a test may ask of it."""

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from tests.service.served import DEADLINE_S, Served, free_port, until


class Prometheus:
    """One that listens at this address."""

    def __init__(self, address: str) -> None:
        self.url = f"http://{address}"

    def is_ready(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self.url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The samples that an expression gives now."""
        answer = httpx.get(f"{self.url}/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[dict[str, Any]] = answer["data"]["result"]
        return found

    def value(self, expression: str) -> float | None:
        """The single sample that an expression gives, if it gives any."""
        found = self.query(expression)
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None


@contextmanager
def scraping(
    program: str, served: Served, folder: Path, rules: Sequence[Path] = (), flags: Sequence[str] = ()
) -> Iterator[Prometheus]:
    """Prometheus, which asks this server five times a second, with these files of rules and flags."""
    address = f"127.0.0.1:{free_port()}"
    target = {"job_name": "resnet-serve", "static_configs": [{"targets": ["{}:{}".format(*served.address)]}]}
    often = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    configuration = folder / "prometheus.yml"  # JSON is YAML
    configuration.write_text(
        json.dumps({"global": often, "rule_files": [*map(str, rules)], "scrape_configs": [target]})
    )
    command = [program, f"--config.file={configuration}", f"--web.listen-address={address}", *flags]
    prometheus = Prometheus(address)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen([*command, f"--storage.tsdb.path={folder / 'data'}"], stdout=log, stderr=log)
    try:
        until(lambda: process.poll() is not None or prometheus.is_ready(), "Prometheus")
        assert process.poll() is None, (folder / "log").read_text()
        yield prometheus
    finally:
        process.terminate()
        process.wait(DEADLINE_S)
