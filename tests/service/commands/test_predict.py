"""`resnet-serve predict`, as a shell runs it."""

from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import LABELS, expected_probabilities, make_artifact
from tests.service.commands.shell import resnet_serve, rows
from tests.service.pictures import encode, pixels, png
from tests.service.served import Served, free_port

NOTES = "a[/red]notes.txt"  # what rich would take for the end of a colour


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


def test_classes_whose_probability_is_0_in_fp32_come_by_their_logits_as_a_server_has_them(tmp_path: Path) -> None:
    make_artifact(tmp_path / "models", "sharp", shape=(64, 64, 3))
    picture = pixels(shape=(64, 64, 3))
    (tmp_path / "a.png").write_bytes(encode(picture))
    code, out, _ = resnet_serve("predict", "a.png", "--model-repository", "models", "--top-k", "10", cwd=tmp_path)
    order = np.argsort(-expected_probabilities(picture))
    assert (code, [row[1] for row in rows(out)]) == (0, [LABELS[index] for index in order])


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
    unused = f"http://127.0.0.1:{free_port()}"
    code, out, _ = resnet_serve("predict", "1.png", "--url", unused, cwd=pictures)
    assert code == 1
    assert unused in out
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
