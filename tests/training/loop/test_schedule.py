import pytest
import torch
from torch.optim.lr_scheduler import MultiStepLR, OneCycleLR

from training.loop.schedule import SmoothSchedule, StepSchedule

STEPS = 10_000


def test_one_cycle_is_torchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    reference = OneCycleLR(optimizer, max_lr=1.0, total_steps=STEPS, pct_start=0.3, cycle_momentum=False)
    schedule = SmoothSchedule(kind="one-cycle", warmup=0.3)
    for step in range(STEPS - 1):
        assert schedule.factor(step / STEPS) == pytest.approx(reference.get_last_lr()[0], abs=1e-3)
        optimizer.step()
        reference.step()


@pytest.mark.parametrize(
    ("kind", "quarter_risen", "quarter_fallen"),
    [("one-cycle", 0.1464, 0.8536), ("linear", 0.25, 0.75), ("cosine", 0.25, 0.8536)],
)
def test_rises_from_a_25th_and_falls_to_nothing(kind, quarter_risen, quarter_fallen):
    schedule = SmoothSchedule(kind=kind, warmup=0.2)
    assert schedule.factor(0.0) == pytest.approx(1 / 25)
    assert schedule.factor(0.05) == pytest.approx(1 / 25 + (24 / 25) * quarter_risen, abs=1e-4)
    assert schedule.factor(0.2) == 1
    assert schedule.factor(0.4) == pytest.approx(quarter_fallen, abs=1e-4)
    assert schedule.factor(1.0) == pytest.approx(0)


def test_without_warmup_begins_at_the_peak():
    assert SmoothSchedule(kind="cosine", warmup=0.0).factor(0.0) == 1


def test_steps_are_torchs():
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    optimizer.param_groups[0]["lr"] = 1.0
    reference = MultiStepLR(optimizer, milestones=[500, 750], gamma=0.2)
    schedule = StepSchedule(kind="steps", milestones=(0.5, 0.75), gamma=0.2)
    for step in range(1000):
        assert schedule.factor(step / 1000) == pytest.approx(reference.get_last_lr()[0])
        optimizer.step()
        reference.step()


def test_steps_may_begin_low():
    schedule = StepSchedule(kind="steps", milestones=(0.5,), warmup=0.25)
    assert [schedule.factor(part / 8) for part in range(6)] == pytest.approx([0.1, 0.1, 1, 1, 0.1, 0.1])
