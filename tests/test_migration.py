"""What docs/operations.md tells those who come from TorchServe or Triton, held against both of them."""

import json
import re
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from tests.artifacts import LABELS, SHAPE, expected_probabilities
from tests.service.pictures import encode, pixels
from tests.service.served import DEADLINE_S, environment, free_port
from tests.service.torchserve import torchserve
from tests.service.triton import triton_server
from tests.test_operations import table

TOLERANCE = 1e-4
# What each row's command prints, among other things, in the order in which they can be given.
TORCHSERVE = {
    "classify": '"ant"',
    "a version": '"ant"',
    "can it take work?": "Healthy",
    "one model": '"modelVersion": "2.0"',
    "all models": "digits.mar",
    "unload": "unregistered",
    "load": "registered with 1 initial workers",
    "metrics": "ts_inference_requests_total",
    "workers": "Workers scaled to 2",
    "stop": "has stopped",
}
TRITON = {
    "classify": '"logits"',
    "a version": '"logits"',
    "can it take work?": "",
    "one model": '"platform"',
    "all models": '"READY"',
    "unload": "",
    "load": "",
    "metrics": "nv_inference_request_success",
}


def commands(column: int) -> dict[str, str]:
    """The command of each row that has one, by what it does."""
    found = {row[0]: re.match(r"`((?:curl|torchserve|tritonserver) [^`]+)`", row[column]) for row in table("migration")}
    return {what: match[1] for what, match in found.items() if match}


def ask(command: str, ports: Mapping[int, int], folder: Path, variables: Mapping[str, str]) -> str:
    """Run a command, which must succeed, with these ports for the usual ones; what it prints."""
    for usual, port in ports.items():
        command = re.sub(rf"(?<=[ ']):{usual}/", f"127.0.0.1:{port}/", command)
    script = command.replace("curl ", "curl --silent --show-error --fail-with-body ")
    ended = subprocess.run(
        ["bash", "-c", script], cwd=folder, env=variables, capture_output=True, text=True, timeout=DEADLINE_S
    )
    assert ended.returncode == 0, f"{script}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def test_every_command_of_torchserve_does_what_is_said(tmp_path: Path, require: Callable[[str], str]) -> None:
    require("curl")
    (tmp_path / "seven.png").write_bytes(encode(pixels(7)))
    does = commands(1)
    assert does.keys() == {"start", *TORCHSERVE}
    with torchserve(tmp_path, does["start"], "digits") as (variables, ports):
        told = json.loads(ask(does["classify"], ports, tmp_path, variables))
        np.testing.assert_allclose([told[label] for label in LABELS], expected_probabilities(pixels(7)), atol=TOLERANCE)
        for what, said in TORCHSERVE.items():
            assert said in ask(does[what], ports, tmp_path, variables), what


def test_every_command_of_triton_does_what_is_said(tmp_path: Path, require: Callable[[str], str]) -> None:
    require("curl")
    tensor = {"name": "image", "datatype": "UINT8", "shape": [1, *SHAPE], "data": pixels(7).reshape(-1).tolist()}
    (tmp_path / "tensors.json").write_text(json.dumps({"inputs": [tensor]}))
    does = commands(2)
    assert does.keys() == {"start", *TRITON}
    metrics = free_port()
    flags = ("--model-control-mode=explicit", "--load-model=plain", "--allow-metrics=true", f"--metrics-port={metrics}")
    with triton_server(tmp_path, *flags) as url:
        ports = {8000: urlsplit(url).port or 0, 8002: metrics}
        for what, said in TRITON.items():
            assert said in ask(does[what].replace("digits", "plain"), ports, tmp_path, environment()), what
