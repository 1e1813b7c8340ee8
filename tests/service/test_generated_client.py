"""A client that openapi-python-client generates from the OpenAPI document, without a warning, reads digits."""

import base64
import importlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from service.catalog.repository import ZOO, ZOO_DEFAULT
from tests.documents import ROOT
from tests.service.served import DEADLINE_S, Served, Servers

SEVEN = (ROOT / "docs" / "seven.png").read_bytes()
PACKAGE = "generated_client"


@pytest.fixture(scope="module")
def server(serve_module: Servers, tmp_path_factory: pytest.TempPathFactory) -> Served:
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(ZOO / ZOO_DEFAULT, repository / ZOO_DEFAULT)
    return serve_module("--model-repository", repository, "--workers", "1").ready()


@pytest.fixture(scope="module")
def generated(server: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The package, imported."""
    folder = tmp_path_factory.mktemp("generated")
    document = folder / "openapi.json"
    document.write_text(httpx.get(f"{server.url}/openapi.json", timeout=DEADLINE_S).text)
    programs = Path(sys.executable).parent
    command = [programs / "openapi-python-client", "generate", "--fail-on-warning", "--meta", "none"]
    subprocess.run(
        [*command, "--path", document, "--output-path", folder / PACKAGE],
        env=os.environ | {"PATH": f"{programs}:{os.environ['PATH']}"},  # it formats by ruff
        check=True,
        timeout=DEADLINE_S,
    )
    sys.path.insert(0, str(folder))
    yield importlib.import_module(PACKAGE)
    sys.path.remove(str(folder))


def ask(generated: ModuleType, server: Served, operation: str, *path: str, **given: Any) -> Any:
    """What the operation of this module gives back."""
    module = importlib.import_module(f"{PACKAGE}.api.{operation}")
    with generated.Client(server.url, timeout=httpx.Timeout(DEADLINE_S)) as client:
        return module.sync(*path, client=client, **given)


def test_an_image_is_classified(generated: ModuleType, server: Served) -> None:
    types = importlib.import_module(f"{PACKAGE}.types")
    answer = ask(generated, server, "prediction.predict_predict_post", body=types.File(BytesIO(SEVEN)), top_k=2)
    assert [one.label for one in answer.predictions] == ["7", "5"]


def test_a_tensor_is_classified(generated: ModuleType, server: Served) -> None:
    operation = "open_inference_protocol.infer_v2_models_model_infer_post"
    body = importlib.import_module(f"{PACKAGE}.models").InferV2ModelsModelInferPostJsonBody.from_dict
    image = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(SEVEN).decode()]}
    logits = {"name": "logits", "parameters": {"classification": 1}}
    answer = ask(generated, server, operation, ZOO_DEFAULT, body=body({"inputs": [image], "outputs": [logits]}))
    assert answer.outputs[0].data[0].endswith(":7:7")
    refused = ask(generated, server, operation, ZOO_DEFAULT, body=body({"inputs": [image | {"shape": [2]}]}))
    assert refused.error == "input 'image' has 1 elements, and by its shape 2"


def test_models_are_described_and_errors_are_told(generated: ModuleType, server: Served) -> None:
    (model,) = ask(generated, server, "models.models_models_get").models
    assert (model.name, model.input_.height) == (ZOO_DEFAULT, 28)
    problem = ask(generated, server, "models.model_models_model_get", "zebra")
    assert (problem.status, problem.code) == (404, "not_found")
