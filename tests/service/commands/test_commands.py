"""`resnet-serve predict` and `resnet-serve check`, as a shell runs them."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import LABELS, expected_probabilities
from tests.service.pictures import pixels, png
from tests.service.served import DEADLINE_S, Served, environment, free_port

ROOT = Path(__file__).resolve().parents[3]
NOTES = "a[/red]notes.txt"  # what rich would take for the end of a colour


def resnet_serve(*arguments: str | Path, cwd: Path) -> tuple[int, str, str]:
    """Exit code, output and errors of a command that must not crash."""
    done = subprocess.run(
        [sys.executable, "-m", "service", *map(str, arguments)],
        cwd=cwd,
        env=environment(COLUMNS="300", PYTHONPATH=str(ROOT), TERM="dumb"),
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def rows(table: str) -> list[list[str]]:
    """The cells of a printed table, without its frame and head."""
    lines = [re.split("[│┃|]", line)[1:-1] for line in table.splitlines() if re.match("^[│┃|]", line)]
    return [[cell.strip() for cell in line] for line in lines][1:]


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder with two images and two files that are none."""
    for seed in (1, 2):
        (tmp_path / f"{seed}.png").write_bytes(png(seed))
    (tmp_path / NOTES).parent.mkdir()
    (tmp_path / NOTES).write_text("no image")
    return tmp_path


def expected(name: str, seed: int, top_k: int) -> list[list[str]]:
    """The rows of a picture."""
    probabilities = expected_probabilities(pixels(seed))
    order = np.argsort(-probabilities)[:top_k]
    return [["" if rank else name, LABELS[index], f"{probabilities[index]:.4f}"] for rank, index in enumerate(order)]


def test_predict_classifies_files_in_process(pictures: Path, repository: Path) -> None:
    options = ("--model-repository", repository, "--model", "plain", "--top-k", "2")
    code, out, _ = resnet_serve("predict", "1.png", "2.png", *options, cwd=pictures)
    assert code == 0
    assert rows(out) == expected("1.png", 1, 2) + expected("2.png", 2, 2)


def test_predict_asks_a_running_server(pictures: Path, server: Served) -> None:
    code, out, _ = resnet_serve("predict", "--url", server.url + "/", "1.png", cwd=pictures)
    assert code == 0
    assert rows(out) == expected("1.png", 1, 3)
    code, out, _ = resnet_serve("predict", "--url", server.url, "--model", "colour", "1.png", cwd=pictures)
    assert {row[1] for row in rows(out)} == {"red", "green", "blue"}


@pytest.mark.parametrize("how", ["in process", "by a server"])
def test_files_that_cannot_be_classified_are_named_and_the_rest_are_answered(
    pictures: Path, repository: Path, server: Served, how: str
) -> None:
    options = ["--model-repository", repository, "--model", "plain"] if how == "in process" else ["--url", server.url]
    files = (NOTES, "missing.png", "2.png")
    code, out, _ = resnet_serve("predict", *files, "--top-k", "1", *options, cwd=pictures)
    assert code == 1
    notes, missing, good = rows(out)
    assert notes[0] == NOTES
    assert "not a PNG" in notes[1]
    assert missing[0] == "missing.png"
    assert "No such file" in missing[1]
    assert [good] == expected("2.png", 2, 1)


def test_predict_says_what_is_wrong_with_how_it_was_called(pictures: Path, repository: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    code, out, _ = resnet_serve("predict", "1.png", "--url", nobody, cwd=pictures)
    assert code == 1
    assert nobody in out
    code, _, errors = resnet_serve("predict", "1.png", "--url", "ftp://server", cwd=pictures)
    assert code == 2
    assert "http://" in errors
    code, _, errors = resnet_serve(
        "predict", "1.png", "--model-repository", repository, "--model", "zebra", cwd=pictures
    )
    assert code == 1
    assert "plain" in errors
    code, _, errors = resnet_serve("predict", cwd=pictures)
    assert code == 2
    assert "files" in errors.lower()


def test_check_reports_every_model_and_fails_for_any(repository: Path, tmp_path: Path) -> None:
    code, out, _ = resnet_serve("check", repository, cwd=tmp_path)
    states = {row[0]: (row[1], row[2]) for row in rows(out) if row[0]}
    assert code == 1
    assert {name: version for name, (version, _) in states.items()} == {
        "colour": "1",
        "damaged": "1",
        "faulty": "1",
        "plain": "2",
        "wrong": "1",
    }
    assert [name for name, (_, state) in states.items() if state == "ready"] == ["colour", "faulty", "plain"]
    assert "SHA-256" in states["damaged"][1]
    assert "golden example" in states["wrong"][1]


def test_check_is_content_with_a_sound_repository(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "plain", tmp_path / "repository" / "plain")
    code, out, _ = resnet_serve("check", tmp_path / "repository", cwd=tmp_path)
    assert code == 0
    ((name, version, state, *figures),) = rows(out)
    assert (name, version, state) == ("plain", "2", "ready")
    assert all(float(figure) >= 0 for figure in figures)


def test_check_of_no_repository_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty"):
        code, _, errors = resnet_serve("check", tmp_path / name, cwd=tmp_path)
        assert code == 1, name
        assert str(tmp_path / name) in errors
