"""`resnet-serve check`, as a shell runs it."""

import shutil
from pathlib import Path

from tests.service.commands.shell import resnet_serve, rows


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
    assert (states["damaged"][1], states["wrong"][1]) == ("failed", "failed")
    reasons = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    assert reasons["damaged/1"].startswith(f"{repository / 'damaged' / '1'}: model.onnx has SHA-256 ")
    assert "golden example" in reasons["wrong/1"]


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
