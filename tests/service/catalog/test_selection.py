"""What an operator's decisions leave of a model's versions."""

import pytest

from service.catalog.selection import Selection

NONE, SHADOW = Selection(), Selection(shadow=("m", 3))


@pytest.mark.parametrize(
    ("selection", "allowed"),
    [
        (NONE, {1, 2, 3}),
        (NONE.load("m", 2), {2}),
        (NONE.load("m", 2).load("m", None), {1, 2, 3}),
        (NONE.load("m", 2).load("m", 3), {3}),
        (NONE.load("other", 2), {1, 2, 3}),
        (NONE.unload("m"), set()),
        (NONE.unload("other"), {1, 2, 3}),
        (NONE.unload("m").load("m", None), {1, 2, 3}),
        (NONE.delete("m", 3), {1, 2}),
        (NONE.delete("m", 3).load("m", 3), {3}),
        (NONE.delete("m", 3).load("m", 2).load("m", None), {1, 2, 3}),
        (NONE.delete("m", 3).load("m", 2), {2}),
        (NONE.load("m", 3).delete("m", 3), {1, 2}),
        (NONE.load("m", 3).delete("m", 2), {3}),
        (SHADOW, {1, 2}),
        (SHADOW.load("m", 3), {3}),
        (SHADOW.load("m", None), {1, 2}),
        (SHADOW.delete("m", 3), {1, 2}),
        (SHADOW.delete("m", 3).load("m", None), {1, 2, 3}),
        (SHADOW.exchange("m", 3, 2), {1, 2, 3}),
        (SHADOW.exchange("m", 3, 2).exchange("m", 2, 3), {1, 2}),
        (Selection(shadow=("m", 2)).exchange("m", 2, 3), {1, 2}),
        (Selection(shadow=("m", 2)).exchange("m", 2, 3).exchange("m", 3, 2), {1, 2, 3}),
        (SHADOW.load("m", 1).exchange("m", 3, 1), {3}),
        (SHADOW.load("m", 1).exchange("m", 3, 1).exchange("m", 1, 3), {1}),
    ],
)
def test_decisions_bound_which_versions_may_be_served(selection: Selection, allowed: set[int]) -> None:
    assert {version for version in (1, 2, 3) if selection.allows("m", version)} == allowed
