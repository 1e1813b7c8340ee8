"""What the other servers run is what ours runs: the same model, the same pixels, the same classes."""

import json
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms.functional import center_crop, resize

from benchmarks.serving.peers.classify import RESIZE, Classifier
from benchmarks.serving.peers.stock_litserve import LitServeClassifier
from benchmarks.serving.workloads import Workload
from tests.artifacts import LABELS, SHAPE, expected_probabilities


@pytest.fixture(autouse=True)
def environment(workload: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEER_MODEL", str(workload.model_file))
    monkeypatch.setenv("PEER_LABELS", json.dumps(workload.artifact.labels))
    monkeypatch.setenv("PEER_TOP_K", "3")


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(size[0]).integers(0, 256, size[::-1], np.uint8))


def png(image: Image.Image) -> BytesIO:
    stream = BytesIO()
    image.save(stream, "PNG")
    stream.seek(0)
    return stream


def expected(pixels: np.ndarray) -> list[tuple[str, float]]:
    probabilities = expected_probabilities(pixels)
    best = sorted(range(len(LABELS)), key=lambda one: -probabilities[one])[:3]
    return [(LABELS[one], pytest.approx(float(probabilities[one]), rel=1e-3)) for one in best]


def test_the_classes_are_the_most_probable_ones():
    classifier = Classifier()
    pixels = np.stack([classifier.pixels(png(noise((8, 8)))), classifier.pixels(png(noise((8, 8)).rotate(90)))])
    assert pixels.shape == (2, *SHAPE)
    for found, image in zip(classifier.run(pixels), pixels, strict=True):
        assert [(one["label"], one["probability"]) for one in found] == expected(image)


@pytest.mark.parametrize("size", [(500, 375), (300, 400)])
def test_photographs_are_resized_and_cropped_as_torchvision_does(size: tuple[int, int]):
    image = noise(size)
    pixels = Classifier().pixels(png(image))
    torchvision = np.asarray(center_crop(resize(image, [RESIZE]), [8, 8]))
    assert np.abs(pixels[:, :, 0].astype(int) - torchvision).max() <= 1


def test_litserve_answers_each_image_of_a_batch():
    api = LitServeClassifier(max_batch_size=32, batch_timeout=0.002)
    api.setup("cpu")
    images = [noise((8, 8)), noise((8, 8)).rotate(90)]
    pixels = [api.decode_request({"image": SimpleNamespace(file=png(image))}) for image in images]
    answers = [api.encode_response(one) for one in api.unbatch(api.predict(api.batch(pixels)))]
    for answer, image in zip(answers, pixels, strict=True):
        assert [(one["label"], one["probability"]) for one in answer["predictions"]] == expected(image)
