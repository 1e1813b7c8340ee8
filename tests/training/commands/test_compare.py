"""Curves of several runs in one picture."""

import json

import pytest

from training.commands.compare import compare, read_history
from training.errors import CompareError
from training.loop.run import METRICS

ROWS = [{"epoch": epoch, "accuracy": 0.5, "loss": 1.0 / epoch, "validation_accuracy": 0.4} for epoch in (1, 2)]


def _run(folder, rows=ROWS):
    folder.mkdir(parents=True)
    (folder / METRICS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_runs_are_drawn_together_also_of_one_name_and_without_held_back_images(tmp_path):
    bare = [{key: row[key] for key in ("epoch", "accuracy", "loss")} for row in ROWS]
    runs = [_run(tmp_path / "a" / "run"), _run(tmp_path / "b" / "run", bare)]
    compare(runs, tmp_path / "both.png")
    compare(runs[:1], tmp_path / "one.png")
    both, one = ((tmp_path / name).read_bytes() for name in ("both.png", "one.png"))
    assert both.startswith(b"\x89PNG")
    assert both != one


def test_a_history_is_what_the_run_wrote(tmp_path):
    assert read_history(_run(tmp_path / "run")) == ROWS


@pytest.mark.parametrize("text", [None, "", "not json\n", '{"epoch": 1}\n', "[1]\n"])
def test_a_folder_that_holds_no_run_is_named(tmp_path, text):
    folder = tmp_path / "no-run"
    folder.mkdir()
    if text is not None:
        (folder / METRICS).write_text(text)
    with pytest.raises(CompareError, match="no-run"):
        compare([folder], tmp_path / "out.png")
    assert not (tmp_path / "out.png").exists()
