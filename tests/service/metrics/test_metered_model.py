"""Classes are counted by themselves up to a setting, and the others together."""

from collections import Counter
from pathlib import Path

import httpx
import numpy as np

from tests.artifacts import SHAPE
from tests.service.pictures import encode
from tests.service.served import DEADLINE_S, Servers


def test_classes_beyond_the_setting_share_one_series(serve: Servers, repository: Path) -> None:
    flags = ("--model-repository", repository, "--default-model", "plain", "--workers", "1", "--class-metrics", "2")
    served = serve(*flags).ready()
    with httpx.Client(base_url=served.url, timeout=DEADLINE_S) as client:
        answers = [client.post("/predict", content=one_bright(place)).json()["predictions"][0] for place in range(20)]
    expected = Counter(one["label"] if one["index"] < 2 else "other" for one in answers)
    assert len(expected) == 3
    found = {
        series.partition('label="')[2].partition('"')[0]: count
        for series, count in served.metrics().items()
        if series.startswith("resnet_predictions_total{") and 'model="plain"' in series
    }
    assert found == expected


def one_bright(place: int) -> bytes:
    """A picture with one bright pixel: they are of many classes."""
    picture = np.zeros(SHAPE, np.uint8)
    picture.flat[place] = 255
    return encode(picture)
