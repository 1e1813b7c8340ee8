"""Starting the server: what its settings mean on this machine, and which cannot be meant."""

import json
import multiprocessing
import sys
from pathlib import Path
from typing import Any

import pytest

from models.machine.memory import usable_memory
from service.commands import serve as module
from service.commands.serve import read_models, share_machine
from service.commands.start_checks import check_root_path
from service.config.settings import SettingError, Settings
from service.routes.routes import ROUTES
from service.supervisor.repository_watch import Fingerprint, fingerprint
from tests.artifacts import make_artifact
from tests.service.served import DEADLINE_S, Servers, free_port


@pytest.mark.parametrize(
    ("chosen", "cores", "processes", "threads"),
    [
        ({}, 1, 1, 1),
        ({}, 2, 1, 2),
        ({}, 3, 1, 3),
        ({}, 4, 2, 2),
        ({"api_processes": 4}, 8, 4, 2),
        ({"decode_threads": 3}, 2, 1, 3),
    ],
)
def test_cores_are_shared_among_processes_and_their_threads(
    chosen: dict[str, int], cores: int, processes: int, threads: int
) -> None:
    settings = share_machine(Settings(**chosen), cores)
    assert (settings.api_processes, settings.decode_threads) == (processes, threads)


def test_a_quarter_of_the_memory_is_for_decoding_unless_it_is_set() -> None:
    shared, chosen = share_machine(Settings(), 8), share_machine(Settings(decode_memory=5), 8)
    assert chosen.decode_memory == 5
    assert 8 * shared.decode_memory <= usable_memory() < 9 * shared.decode_memory  # of each of two processes


def test_batches_of_a_model_that_is_not_there_are_an_error(serve: Servers, repository: Path) -> None:
    batching = json.dumps({"plian": {"max_batch_size": 3}, "wrong": {"max_batch_size": 1}})
    served = serve("--model-repository", repository, "--default-model", "plain", "--batching", batching)
    assert served.wait() == 2
    assert "--batching is for plian, but the models are colour, damaged, faulty, plain, wrong" in served.log


@pytest.mark.parametrize("path", ["/models", "/predict", "/v2", "/models/digits", "/docs", "/livez"])
def test_no_prefix_is_the_begin_of_a_route(path: str) -> None:
    """Of /models/digits/predict, asked for without the prefix /models, /digits/predict would be left."""
    with pytest.raises(SettingError, match="is how the server's own"):
        check_root_path(Settings(root_path=path, _cli_parse_args=False), ROUTES)


@pytest.mark.parametrize("path", ["", "/digits", "/v2/digits", "/api/models", "/models-of-mine", "/predict/digits"])
def test_other_prefixes_are_taken(path: str) -> None:
    check_root_path(Settings(root_path=path, _cli_parse_args=False), ROUTES)


@pytest.mark.parametrize("polled_s", [1.0, 0.0])
def test_what_comes_while_the_models_are_read_is_new_to_the_watch_if_there_is_one(
    polled_s: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: Any) -> Any:
        catalog = read_models(*arguments)
        make_artifact(tmp_path, "plain", 2)
        return catalog

    class Asked:
        """Takes the supervisor's place; exit code 0 if it was told what a watched folder held before."""

        def __init__(self, *arguments: Any) -> None:
            self._arguments = arguments

        def run(self) -> int:
            return 0 if (before if polled_s else Fingerprint()) in self._arguments else 1

    make_artifact(tmp_path, "plain")
    before = fingerprint(tmp_path, tmp_path)
    monkeypatch.setattr(module, "read_models", read)
    monkeypatch.setattr(module, "Supervisor", Asked)
    settings = Settings(
        _cli_parse_args=False, model_repository=tmp_path, port=free_port(), workers=1, poll_repository=polled_s
    )
    server = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(module.serve(settings)))
    server.start()
    server.join(DEADLINE_S)
    assert server.exitcode == 0
    assert fingerprint(tmp_path, tmp_path) != before
