import shutil
from email import message_from_bytes
from pathlib import Path

import numpy as np
import pytest

from benchmarks.serving.workloads import Upload, mnist_workload, multipart, raw
from models.engines.loader import load_engine
from models.images.decoder import MAX_PIXELS, Preprocessor
from service.catalog.repository import ZOO

IMAGE = b"\0image\r\n\xff"


def test_the_form_holds_the_image():
    upload = multipart(IMAGE, "image/png")
    message = message_from_bytes(f"Content-Type: {upload.content_type}\r\n\r\n".encode() + upload.body)
    (part,) = message.get_payload()
    assert part.get_payload(decode=True) == IMAGE
    assert part.get_content_type() == "image/png"
    assert part.get_param("name", header="Content-Disposition") == "image"


def test_the_raw_body_is_the_image():
    assert raw(IMAGE, "image/png") == Upload(IMAGE, "image/png")


def test_the_digit_is_a_seven_for_the_newest_version_alone(tmp_path: Path):
    repository = tmp_path / "repository"
    shutil.copytree(ZOO / "mnist-residual" / "1", repository / "mnist-residual" / "2")
    shutil.copytree(ZOO / "mnist-residual" / "1", repository / "mnist-residual" / "10")
    workload = mnist_workload(repository, tmp_path)
    assert [path.name for path in (workload.repository / "mnist-residual").iterdir()] == ["10"]
    pixels = Preprocessor(workload.artifact.metadata.preprocessing, MAX_PIXELS)(workload.image)
    (logits,) = load_engine(workload.artifact).run(pixels[np.newaxis])
    assert workload.artifact.labels[int(logits.argmax())] == "7"
    assert len(set(workload.traffic)) > 1000


def test_a_repository_without_the_model_is_told(tmp_path: Path):
    with pytest.raises(SystemExit, match="has no model mnist-residual; name another folder with --model-repository"):
        mnist_workload(tmp_path, tmp_path)
