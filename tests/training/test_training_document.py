"""docs/training.md does what it says: its shell blocks run in order, on a small folder, to an answered request."""

import json
import re
import shlex
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch
from torchvision.models import resnet18

from models.artifact.artifact import read_artifact
from tests.documents import ROOT, URL, blocks, imitate_checkout, run
from tests.service.served import Served
from tests.training.folders import COLOURS, below, pack, picture, pictures
from tests.training.onnx_import.exported import export, tiny

DOCUMENT = (ROOT / "docs" / "training.md").read_text()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with photographs of three colours, and networks that have not seen any: weights, and ONNX."""
    folder = imitate_checkout(tmp_path, "training")
    splits = {"train": 4, "val": 1, "test": 2}
    files = [
        below(part, pictures(count, (300, 260), "JPEG", seed)) for seed, (part, count) in enumerate(splits.items())
    ]
    pack(folder, "folder", files[0] | files[1] | files[2]).rename(folder / "photos")
    (folder / "photo.jpg").write_bytes(picture("green", 9999, (640, 480), "JPEG"))
    torch.save(resnet18().state_dict(), folder / "resnet18.pth")
    export(tiny(classes=len(COLOURS)), folder / "theirs.onnx")
    return folder


@pytest.mark.slow
def test_walk_ends_with_an_answer(checkout: Path, require: Callable[[str], str]) -> None:
    require("curl")
    answers, url = [], URL
    with ExitStack() as stack:
        for script in (block.script for block in blocks(DOCUMENT)):
            if script.startswith(".venv/bin/resnet-serve --"):
                flags = shlex.split(script.replace("models.local", str(checkout / "models.local")))[1:]
                url = stack.enter_context(Served(*flags)).ready().url
                continue
            output = run(
                script.replace(URL, url).replace("curl ", "curl --fail-with-body --silent -w '\\n' "), checkout
            )
            if "curl " in script:
                answers += [json.loads(line) for line in output.splitlines()]
    assert [answer["model"] for answer in answers] == ["photos", "photos-int8"]
    for answer in answers:
        assert {each["label"] for each in answer["predictions"]} == set(COLOURS)
    preprocessing = read_artifact(checkout / "models.local" / "photos" / "1").metadata.preprocessing
    assert (preprocessing.resize, *preprocessing.shape) == (256, 224, 224, 3)
    listed = re.findall(r"^\| `([\w.]+)` \|", DOCUMENT, re.MULTILINE)
    assert sorted(listed) == sorted(file.name for file in (checkout / "runs" / "photos").iterdir())
