"""Pictures classified on a Ray cluster of two nodes, against one process and against the network by hand.

The cluster is in a network and a process namespace of its own, where that is permitted: Ray listens on every interface.
"""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest

from models.artifact.artifact import read_artifact
from models.engines.loader import load_engine
from models.postprocess import softmax
from tests.artifacts import LABELS, expected_probabilities, make_artifact
from tests.documents import ROOT
from tests.service.pictures import TOLERANCE, encode, pixels

PATIENCE_S = 570.0
APART = ["unshare", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]


def namespaces() -> list[str]:
    """How a command is run in namespaces of its own; nothing where it may not be."""
    permitted = os.geteuid() == 0 and subprocess.run([*APART, "true"], check=False, capture_output=True).returncode == 0
    return APART if permitted else []


@pytest.mark.slow
def test_two_nodes_answer_as_one_process(tmp_path: Path) -> None:
    """Of pictures and models in folders, and of the same in a store."""
    artifact = read_artifact(make_artifact(tmp_path / "models", "plain"))
    images = {f"{seed}.png": pixels(seed) for seed in range(8)}
    (tmp_path / "pictures" / "more").mkdir(parents=True)
    for name, image in images.items():
        (tmp_path / "pictures" / ("more" if name > "4" else "") / name).write_bytes(encode(image))
    (tmp_path / "pictures" / "notes.txt").write_text("no picture")

    def command(place: str, answers: str) -> list[str]:
        models = ("--model-repository", f"{place}/models", "--output", answers, "--cache-dir", f"{tmp_path}/cache")
        return [f"{place}/pictures", *models, "--actors", "2", "--threads", "2", "--batch-size", "2"]

    program = [sys.executable, "-m", "tests.deploy.two_ray_nodes", tmp_path, ROOT / "deploy" / "ray" / "classify.py"]
    of_folder = command(str(tmp_path), f"{tmp_path}/answers")
    of_store = command("s3://models/released", "s3://models/answers")
    done = subprocess.run(
        [*namespaces(), *program, *of_folder, "--then", *of_store],
        env=os.environ | {"PYTHONPATH": str(ROOT), "RAY_USAGE_STATS_ENABLED": "0"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    nodes = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("NODES")]
    assert list(map(len, nodes)) == [2, 2], done.stderr

    alone = softmax(load_engine(artifact).run(np.stack(list(images.values()))))
    for answers in ("answers", "answers-of-s3"):
        rows = {Path(row["path"]).name: row for row in parquet.read_table(tmp_path / answers).to_pylist()}
        assert rows.keys() == {*images, "notes.txt"}
        notes = rows.pop("notes.txt")
        assert (notes["label"], notes["probability"]) == (None, None)
        assert notes["problem"].startswith("not a PNG")
        for (name, image), by_one_process in zip(images.items(), alone, strict=True):
            by_hand = expected_probabilities(image)
            assert rows[name]["problem"] is None
            assert rows[name]["label"] == LABELS[by_one_process.argmax()] == LABELS[by_hand.argmax()]
            assert rows[name]["probability"] == pytest.approx(by_one_process.max(), abs=1e-6)
            assert rows[name]["probability"] == pytest.approx(by_hand.max(), abs=TOLERANCE)
