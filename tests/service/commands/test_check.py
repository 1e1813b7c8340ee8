"""`resnet-serve check`, as a shell runs it."""

import re
import shutil
from pathlib import Path

import pytest

from models.machine.memory import usable_memory
from service.catalog.repository import ZOO
from service.commands.check import MIB
from tests.artifacts import make_artifact
from tests.service.commands.shell import resnet_serve, rows


def test_check_reports_every_model_and_fails_for_any(repository: Path, tmp_path: Path) -> None:
    code, out, _ = resnet_serve("check", repository, cwd=tmp_path)
    states = {place: state for place, state, *_ in rows(out)}
    assert code == 1
    assert states == {
        "colour/1": "ready",
        "damaged/1": "failed",
        "faulty/1": "ready",
        "plain/2": "ready",
        "wrong/1": "failed",
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
    ((place, state, engine, *figures),) = rows(out)
    assert (place, state, engine) == ("plain/2", "ready", "onnxruntime fp32")
    assert all(float(figure) >= 0 for figure in figures)


def test_nothing_of_the_models_that_ship_is_cut_off_on_80_columns(tmp_path: Path) -> None:
    code, out, _ = resnet_serve("check", ZOO, cwd=tmp_path, columns=80)
    assert code == 0
    assert "cifar10-resnet20/1" in out
    assert "…" not in out


def test_check_tells_the_memory_that_models_take(tmp_path: Path) -> None:
    """The first has the engine's library besides; of the second, which is alone then, its weights are most."""
    ballast = 32 << 20
    for name in "ab":
        make_artifact(tmp_path, name, ballast_bytes=ballast)
    options = ("--workers", "3", "--memory-budget", str(ballast), "--max-batch-size", "2")
    code, out, _ = resnet_serve("check", tmp_path, *options, cwd=tmp_path)
    assert code == 0
    (*_, first), (*_, second) = rows(out)
    assert ballast / MIB <= float(second) < 1.5 * ballast / MIB
    assert float(first) > float(second) - ballast / MIB / 4
    told = re.search(
        r"^([\d.]+) MiB of memory in a worker with all models, ([\d.]+) in 3; (\d+) may be used", out, re.M
    )
    assert told
    together, total, usable = map(float, told.groups())
    assert together == pytest.approx(float(first) + float(second), abs=0.2)
    assert total == pytest.approx(3 * together, abs=0.2)
    assert usable == pytest.approx(usable_memory() / MIB, abs=1)
    assert "--memory-budget is 32.0: those that do not fit are loaded when they are asked for" in out


def test_check_of_no_repository_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("missing", "empty"):
        code, _, errors = resnet_serve("check", tmp_path / name, cwd=tmp_path)
        assert code == 1, name
        assert str(tmp_path / name) in errors
