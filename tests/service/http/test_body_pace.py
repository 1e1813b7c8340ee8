"""How long a client has for a body, by a clock of the test's own."""

from service.http.body_pace import BodyPace
from service.policy import BODY_BYTES_PER_S

PATIENCE_S = 10.0
SECOND = 1_000_000_000


def ends_s(pace: BodyPace) -> float:
    return pace.ends_ns / SECOND


def test_a_silent_client_has_its_patience_from_its_last_byte() -> None:
    pace = BodyPace(0, PATIENCE_S)
    pace.note(1 << 20, 3 * SECOND)
    assert ends_s(pace) == 3 + PATIENCE_S
    pace.note(1, 8 * SECOND)
    assert ends_s(pace) == 8 + PATIENCE_S


def test_a_steady_one_has_as_long_as_it_takes() -> None:
    pace = BodyPace(0, PATIENCE_S)
    for second in range(100):
        assert ends_s(pace) > second
        pace.note(2 * BODY_BYTES_PER_S, second * SECOND)


def test_a_byte_now_and_then_buys_no_time() -> None:
    pace = BodyPace(0, PATIENCE_S)
    for second in range(20):
        pace.note(1, second * SECOND)
        assert PATIENCE_S <= ends_s(pace) < PATIENCE_S + 1


def test_what_came_in_a_burst_counts_for_its_average() -> None:
    pace = BodyPace(0, PATIENCE_S)
    pace.note(5 * BODY_BYTES_PER_S, 0)
    for second in range(0, 20, 5):
        pace.note(1, second * SECOND)
    assert PATIENCE_S + 5 < ends_s(pace) < PATIENCE_S + 6
