"""Stopping between two steps, by real signals."""

import signal

import pytest

from training.loop.interrupt import Interrupt


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_is_noted_and_what_stopped_the_run_told_as_a_shell_expects(number, code):
    with Interrupt() as interrupt:
        assert (interrupt.noted, interrupt.exit_code) == (None, 0)
        signal.raise_signal(number)
        assert (interrupt.noted, interrupt.exit_code) == (number, 0)
        interrupt.agreed = interrupt.noted
        assert interrupt.exit_code == code


def test_the_second_acts_as_outside():
    reached: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: reached.append(number))
    try:
        with Interrupt() as interrupt:
            signal.raise_signal(signal.SIGINT)
            assert (interrupt.noted, reached) == (signal.SIGINT, [])
            signal.raise_signal(signal.SIGINT)
            assert reached == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_patient_one_notes_all_and_leaves_the_handlers_as_they_were():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with Interrupt(patient=True) as interrupt:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            signal.raise_signal(number)
        assert interrupt.noted == signal.SIGTERM
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
