"""Curves of several runs in one picture."""

import json

import pytest
from PIL import Image

from tests.training.command import resnet_train
from training.commands.compare import panels, read_history
from training.loop.run import METRICS

ROWS = [{"epoch": epoch, "accuracy": 0.5, "loss": 1.0 / epoch, "validation_accuracy": 0.4} for epoch in (1, 2)]
BARE = [{key: row[key] for key in ("epoch", "accuracy", "loss")} for row in ROWS]


def _run(folder, rows=ROWS):
    folder.mkdir(parents=True)
    (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def _lines(panel):
    return [(line.label, list(line.x), [list(values) for values in line.values], line.dashed) for line in panel.lines]


def test_each_run_has_a_dashed_line_of_training_and_a_solid_one_of_what_was_held_back(tmp_path):
    accuracy, loss = panels([_run(tmp_path / "first"), _run(tmp_path / "second", BARE)])
    assert (accuracy.y_label, loss.y_label) == ("accuracy", "loss")
    assert _lines(accuracy) == [
        ("first", [1, 2], [[0.4, 0.4]], False),
        ("first", [1, 2], [[0.5, 0.5]], True),
        ("second", [1, 2], [[0.5, 0.5]], True),
    ]
    assert _lines(loss) == [("first", [1, 2], [[1.0, 0.5]], True), ("second", [1, 2], [[1.0, 0.5]], True)]


def test_runs_of_one_name_are_told_apart_by_their_paths(tmp_path):
    runs = [_run(tmp_path / name / "run") for name in ("a", "b")] + [_run(tmp_path / "other")]
    assert {line.label for line in panels(runs)[1].lines} == {str(runs[0]), str(runs[1]), "other"}


def test_a_history_is_what_the_run_wrote(tmp_path):
    assert read_history(_run(tmp_path / "run")) == ROWS


def test_an_infinite_loss_on_what_was_held_back_is_of_a_run(tmp_path):
    """Before the last epoch `fit` goes on with it."""
    rows = [{**ROWS[0], "validation_loss": float("inf")}, ROWS[1]]
    assert read_history(_run(tmp_path / "run", rows)) == rows


def test_the_command_writes_the_picture_and_tells_its_path(tmp_path):
    output = tmp_path / "both.png"
    ended = resnet_train("compare", _run(tmp_path / "a"), _run(tmp_path / "b"), "--output", output)
    assert (ended.code, ended.output.strip()) == (0, str(output))
    with Image.open(output) as picture:
        assert len(picture.convert("RGB").getcolors(1 << 20)) > 10  # axes, text, and a line a run


OTHERS = ['{"epoch": 1}', "[1]"] + [
    f'{{"epoch": {epoch}, "accuracy": {accuracy}, "loss": 1}}'
    for epoch, accuracy in (('"a"', 1), (1, "null"), (1, "[1]"), (1, "NaN"), ("1e400", 1))
]


@pytest.mark.parametrize("text", [None, "", "not json\n", *OTHERS])
def test_a_folder_that_holds_no_run_is_named(tmp_path, text):
    folder = tmp_path / "no-run"
    folder.mkdir()
    if text is not None:
        (folder / METRICS).write_text(text)
    ended = resnet_train("compare", folder, "--output", tmp_path / "out.png")
    assert ended.code == 1
    assert ended.errors.startswith("error: ")
    assert "no-run" in ended.errors
    assert not (tmp_path / "out.png").exists()
