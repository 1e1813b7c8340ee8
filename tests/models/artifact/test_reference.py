"""The reference in a model's metadata: what it may not be."""

import dataclasses
import json
from typing import Any

import pytest

from models.artifact.metadata import ArtifactError, Metadata
from models.artifact.reference import ReferenceDistribution

GOOD = {"class_counts": [3, 0, 4], "confidence_bounds": [0.5, 1.0], "confidence_counts": [1, 6, 0]}


def document(metadata: Metadata, **fields: Any) -> str:
    return json.dumps(json.loads(metadata.to_json()) | {"reference": GOOD | fields})


def test_it_is_read_as_it_was_written(metadata: Metadata) -> None:
    read = Metadata.from_json(document(metadata))
    assert read.reference == ReferenceDistribution(
        class_counts=(3, 0, 4), confidence_bounds=(0.5, 1.0), confidence_counts=(1, 6, 0)
    )
    assert read.reference.images == 7
    assert Metadata.from_json(read.to_json()) == read


def test_a_model_of_an_older_release_has_none(metadata: Metadata) -> None:
    older = json.loads(dataclasses.replace(metadata, reference=None).to_json())
    del older["reference"]
    assert Metadata.from_json(json.dumps(older)).reference is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"class_counts": [3, 4]}, "the reference has 2 classes"),
        ({"class_counts": [3, -1, 5]}, "class_counts.1: Input should be greater than or equal to 0"),
        ({"confidence_counts": [7, 0]}, "one more than confidence_bounds"),
        ({"confidence_counts": [7, 1, 0]}, "different numbers of images"),
        ({"class_counts": [0, 0, 0], "confidence_counts": [0, 0, 0]}, "of no image"),
        ({"images": 7}, "reference.images: Unexpected"),
    ],
)
def test_a_wrong_one_is_told(metadata: Metadata, fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message.replace(".", r"\.")):
        Metadata.from_json(document(metadata, **fields))
