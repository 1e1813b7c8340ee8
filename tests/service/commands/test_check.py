"""`resnet-serve check`, as a shell runs it."""

import shutil
from pathlib import Path

from tests.service.commands.shell import resnet_serve, rows


def test_check_reports_every_model_and_fails_for_any(repository: Path, tmp_path: Path) -> None:
    code, out, _ = resnet_serve("check", repository, cwd=tmp_path)
    states = {name: (version, state) for name, version, state, *_ in rows(out)}
    assert code == 1
    assert states == {
        "colour": ("1", "ready"),
        "damaged": ("1", "failed"),
        "faulty": ("1", "ready"),
        "plain": ("2", "ready"),
        "wrong": ("1", "failed"),
    }
    reasons = dict(line.split(": ", 1) for line in out.splitlines() if ": " in line)
    assert reasons["damaged/1"].startswith(f"{repository / 'damaged' / '1'}: model.onnx has SHA-256 ")
    assert "golden example" in reasons["wrong/1"]


def test_reasons_are_whole_on_a_narrow_terminal(repository: Path, tmp_path: Path) -> None:
    place = tmp_path / "repository" / ("plain" * 10) / "1"
    shutil.copytree(repository / "plain" / "2", place)
    (place / "SHA256SUMS").unlink()
    code, out, _ = resnet_serve("check", tmp_path / "repository", cwd=tmp_path, columns=80)
    assert code == 1
    assert f"{place}: SHA256SUMS is missing; make it with `sha256sum * > SHA256SUMS`" in out


def test_check_is_content_with_a_sound_repository(repository: Path, tmp_path: Path) -> None:
    shutil.copytree(repository / "plain", tmp_path / "repository" / "plain")
    code, out, _ = resnet_serve("check", tmp_path / "repository", cwd=tmp_path)
    assert code == 0
    ((name, version, state, engine, *figures),) = rows(out)
    assert (name, version, state, engine) == ("plain", "2", "ready", "onnxruntime fp32")
    assert all(float(figure) >= 0 for figure in figures)


def test_check_of_no_repository_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty"):
        code, _, errors = resnet_serve("check", tmp_path / name, cwd=tmp_path)
        assert code == 1, name
        assert str(tmp_path / name) in errors
