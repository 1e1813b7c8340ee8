"""KServe's own client gets what Triton's does; it needs older packages, and has a Python of its own."""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import LABELS, weight
from tests.service.pictures import pixels, png
from tests.service.served import DEADLINE_S, Served

PYTHON = Path(os.environ.get("RESNET_TEST_KSERVE", Path(__file__).parents[2] / ".kserve/bin/python"))
CLIENT = """
import asyncio, json, sys
from pathlib import Path
import numpy as np
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig
from kserve.protocol.infer_type import RequestedOutput

async def ask(url, image):
    client = InferenceRESTClient(RESTConfig(protocol="v2", timeout=60))
    encoded = InferInput("image", [1], "BYTES")
    encoded.set_data_from_numpy(np.array([image], dtype=np.object_), binary_data=True)
    pixels = InferInput("image", [1, 8, 8, 1], "UINT8")
    pixels.set_data_from_numpy(np.zeros((1, 8, 8, 1), np.uint8), binary_data=False)
    found = {}
    for name, tensor, binary in (("binary", encoded, True), ("JSON", encoded, False), ("zeros", pixels, False)):
        output = RequestedOutput("logits", {"binary_data": binary})
        request = InferRequest("plain", [tensor], request_outputs=[output], request_id="one")
        found[name] = (await client.infer(url, request, model_name="plain")).outputs[0].as_numpy().tolist()
    health = [await client.is_server_live(url), await client.is_server_ready(url)]
    return found | {"health": health + [await client.is_model_ready(url, model) for model in ("plain", "wrong")]}

print(json.dumps(asyncio.run(ask(sys.argv[1], Path(sys.argv[2]).read_bytes()))))
"""


@pytest.mark.skipif(not PYTHON.exists(), reason=f"no KServe at {PYTHON}: `make kserve` gets it")
def test_kserve_s_client_infers_and_asks_for_health(server: Served, tmp_path: Path) -> None:
    image = tmp_path / "image.png"
    image.write_bytes(png())
    command = [PYTHON, "-c", CLIENT, server.url, str(image)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    for name in ("binary", "JSON"):
        np.testing.assert_allclose(found[name], [pixels().reshape(-1) / 255 @ weight()], atol=1e-4)
    np.testing.assert_allclose(found["zeros"], [[0.0] * len(LABELS)])
    assert found["health"] == [True, True, True, False]
