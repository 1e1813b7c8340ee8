"""How many connections an API process may accept at once, by what it has and what the others have."""

import pytest

from service.http.accept_share import AcceptShare
from service.policy import ACCEPTS_PER_TURN


@pytest.mark.parametrize(
    ("counts", "own", "due"),
    [
        ([0], 0, ACCEPTS_PER_TURN),
        ([0], 1000, 250),
        ([0, 0, 0, 0], 0, 4),
        ([0, 0, 0, 0], 1, 0),
        ([0, 3], 1, 5),
        ([0, 40], 40, 4),
        ([0, 100], 100, 6),
        ([0, 39], 40, 0),
        ([0, 1000], 0, ACCEPTS_PER_TURN),
    ],
    ids=[
        "alone",
        "alone with many",
        "all have none",
        "the first to have one",
        "behind",
        "all have many",
        "one behind with many",
        "one ahead",
        "started anew",
    ],
)
def test_those_that_have_fewer_come_first(counts: list[int], own: int, due: int) -> None:
    assert AcceptShare(range(own), counts, 0).due() == due
    assert counts[0] == own


def test_connections_that_are_being_made_count() -> None:
    share = AcceptShare((), counts := [0, 0], 1)
    share.parts.append("ab")
    assert (share.due(), counts) == (0, [0, 2])


def test_those_that_are_being_made_do_not_let_a_turn_make_more() -> None:
    share = AcceptShare((), [0], 0)
    share.parts.append(range(1000))
    assert share.due() == ACCEPTS_PER_TURN
