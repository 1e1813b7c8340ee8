import dataclasses
import json
from typing import Any

import pytest

from models.artifact.metadata import ArtifactError, GoldenExample, Metadata


def test_json_gives_back_an_equal_value(metadata: Metadata):
    example = GoldenExample(name="noise", png=bytes(range(256)), pixels_sha256="0" * 64, logits=(0.1, -2.0, 1e-30))
    metadata = dataclasses.replace(metadata, golden=(example,))
    assert Metadata.from_json(metadata.to_json()) == metadata


def test_json_holds_pngs_as_base64(metadata: Metadata):
    example = GoldenExample(name="one", png=b"\x89PNG", pixels_sha256="0" * 64, logits=(0.0, 1.0, 2.0))
    document = json.loads(dataclasses.replace(metadata, golden=(example,)).to_json())
    assert document["golden"][0]["png"] == "iVBORw=="


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("colour",), "red", "colour: Unexpected"),
        (("preprocessing", "blur"), 1, "preprocessing.blur: Unexpected"),
        (("labels",), "cat", "labels: Input should be a valid array"),
        (("labels",), ["cat", "cat", "dog"], "labels repeat"),
        (("preprocessing", "height"), "6", "preprocessing.height: Input should be a valid integer"),
        (("preprocessing", "mode"), "CMYK", "preprocessing.mode: Input should be 'L' or 'RGB'"),
        (("preprocessing", "antialias"), False, "preprocessing.antialias: Input should be True"),
        (("preprocessing", "std"), [0.0], "preprocessing.std.0: Input should be greater than 0"),
        (("preprocessing", "mean"), [0.1, 0.1, 0.1], "mode L needs 1 values"),
        (("preprocessing", "resize"), 5, "resize 5 is smaller than the crop 6 x 6"),
        (("preprocessing", "background"), [0, 0, 256], "preprocessing.background.2"),
        (("format_version",), 2, "format_version: Input should be 1"),
        (("precision",), "fp8", "precision"),
        (("golden",), [{"name": "x", "png": "", "pixels_sha256": "0" * 64, "logits": [1.0]}], "has 1 logits"),
    ],
)
def test_a_wrong_field_is_named(metadata: Metadata, path: tuple[str, ...], value: object, message: str):
    document: dict[str, Any] = json.loads(metadata.to_json())
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    with pytest.raises(ArtifactError, match=message.replace(".", r"\.")):
        Metadata.from_json(json.dumps(document))


def test_every_missing_field_is_named(metadata: Metadata):
    complete = json.loads(metadata.to_json())
    for part, prefix in ((complete, ""), (complete["preprocessing"], "preprocessing.")):
        for field, value in list(part.items()):
            if field == "reference":  # which older ones lack
                continue
            del part[field]
            with pytest.raises(ArtifactError, match=f"{prefix}{field}: Field required"):
                Metadata.from_json(json.dumps(complete))
            part[field] = value


@pytest.mark.parametrize("text", ["", "[]", "null", "{", "x", '{"metrics": NaN}'])
def test_what_is_no_document_is_an_artifact_error(text: str):
    with pytest.raises(ArtifactError, match="resnet_serve"):
        Metadata.from_json(text)
