import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from models.validation import STRICT, explain


@dataclass(config=STRICT)
class Inner:
    size: int


@dataclass(config=STRICT)
class Outer:
    parts: list[Inner]
    share: float


class Parameters(BaseModel):
    timeout: int


class Request(BaseModel):
    parameters: Parameters


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ('{"parts": [{"size": 1}, {"size": "2"}], "share": 0.5}', "parts.1.size: Input should be a valid integer"),
        ('{"parts": [], "share": NaN}', "share: Input should be a finite number"),
        ('{"parts": [], "share": 1.0, "colour": "red"}', "colour: Unexpected keyword argument"),
        ('{"parts": []}', "share: Field required"),
        ("{}", "parts: Field required; share: Field required"),
    ],
)
def test_each_wrong_value_is_told_by_its_place(document: str, told: str):
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Outer).validate_json(document)
    assert explain(caught.value) == told


def test_no_class_of_ours_is_named():
    with pytest.raises(ValidationError) as caught:
        Request.model_validate({"parameters": None})
    assert explain(caught.value) == "parameters: Input should be a valid dictionary"


def test_an_error_of_the_whole_is_told_of_the_document():
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(Outer).validate_json("{")
    assert explain(caught.value, "recipe").startswith("recipe: Invalid JSON")
