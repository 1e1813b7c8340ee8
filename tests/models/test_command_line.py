import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, CliApp, CliPositionalArg, SettingsError

from models.command_line import check_arguments, command_line, read_options


class Options(BaseSettings):
    """Turn a wheel."""

    model_config = command_line("turn-wheel", env_prefix="WHEEL_")

    max_speed: int = Field(3, description="turns a minute")
    turns: int = 1
    spokes: tuple[int, ...] = ()
    back_wards: bool = False


STREAMS = """
import os, sys
from models.command_line import open_standard_streams
open_standard_streams()
print("said", file=sys.stderr)
with open(sys.argv[1], "w") as file:
    file.write(f"{file.fileno()} {os.fstat(1).st_rdev == os.stat(os.devnull).st_rdev}")
"""


@pytest.mark.parametrize("closed", ["<&- >&- 2>&-", "2>&-", ">/dev/null"])
def test_no_file_takes_the_number_of_a_standard_stream(closed: str, tmp_path: Path):
    command = ["sh", "-c", f'exec "$0" "$@" {closed}', sys.executable, "-c", STREAMS, str(tmp_path / "file")]
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    assert (tmp_path / "file").read_text() == "3 True"


def test_a_flag_goes_before_a_variable_and_a_variable_before_the_default(monkeypatch: pytest.MonkeyPatch):
    assert CliApp.run(Options, []).max_speed == 3
    monkeypatch.setenv("WHEEL_MAX_SPEED", "4")
    assert CliApp.run(Options, []).max_speed == 4
    assert CliApp.run(Options, ["--max-speed", "5"]).max_speed == 5


def test_a_switch_needs_no_value():
    assert CliApp.run(Options, ["--back-wards"]).back_wards
    assert not CliApp.run(Options, ["--no-back-wards"]).back_wards


def test_an_unknown_flag_ends_the_program(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        CliApp.run(Options, ["--colour", "red"])
    assert "turn-wheel: error: unrecognized arguments: --colour red" in capsys.readouterr().err


def test_a_value_that_does_not_fit_is_told_with_its_flag_and_variable():
    with pytest.raises(SettingsError) as caught:
        read_options(Options, ["--max-speed", "fast", "--turns", "many"])
    first, second = str(caught.value).splitlines()
    assert first.startswith("--max-speed (WHEEL_MAX_SPEED) = 'fast': Input should be a valid integer")
    assert second.startswith("--turns")


def test_where_there_are_no_variables_none_is_told():
    with pytest.raises(SettingsError, match=r"^--speed = 'fast': Input should be a valid integer"):
        read_options(Steering, ["--speed", "fast"])


def test_a_value_of_a_list_is_told_with_its_flag_alone():
    with pytest.raises(SettingsError, match=r"^--spokes \(WHEEL_SPOKES\) = 'bent': "):
        read_options(Options, ["--spokes", "3,bent"])


def test_dashes_alone_are_no_value():
    check_arguments(["--max-speed", "5", "--turns=-3", "--"])
    with pytest.raises(SettingsError, match="--turns=--: -- is no value"):
        check_arguments(["--max-speed", "5", "--turns=--"])


class Steering(BaseSettings):
    """Steer."""

    model_config = command_line("steer")

    angle: int | None = Field(None, description="degrees; straight on if not given")
    speed: int = Field(3, description="turns a minute")
    stops: tuple[str, ...] = Field((), description="where to wait")


def test_help_tells_the_defaults_that_there_are(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        read_options(Steering, ["--help"])
    told = capsys.readouterr().out
    assert "straight on if not given\n" in told
    assert "turns a minute (default: 3)\n" in told
    assert "where to wait\n" in told


class Mowing(BaseSettings):
    """Mow."""

    model_config = command_line("mow")

    width: float = 0.5
    map: Path = Path("garden")
    shed: Path | str = Path("shed")
    areas: tuple[Literal["lawn", "path"], ...] = ()
    owners: list[str] = []
    depths: dict[str, int] = {}
    code: SecretStr | None = None


def test_an_option_of_objects_is_json_and_may_come_more_than_once():
    assert read_options(Mowing, ["--depths", '{"a": 1, "b": 2}', "--depths", '{"b": 3}']).depths == {"a": 1, "b": 3}
    for text in ("x", "a=1", '{"a": ', ""):
        with pytest.raises(SettingsError, match=r"^--depths is no JSON: "):
            read_options(Mowing, ["--depths", text])
    for more in ((), ("--depths", '{"a": 1}')):
        with pytest.raises(SettingsError, match=r"^--depths = \[1\]: Input should be a valid dictionary"):
            read_options(Mowing, ["--depths", "[1]", *more])
    with pytest.raises(SettingsError, match=r"^--depths, a = 'deep': Input should be a valid integer"):
        read_options(Mowing, ["--depths", '{"a": "deep"}'])


def test_help_speaks_of_values_and_not_of_types(capsys: pytest.CaptureFixture[str]):
    for model in (Mowing, Steering):
        with pytest.raises(SystemExit):
            read_options(model, ["--help"])
    told = capsys.readouterr().out.split()
    for flag, value in {
        "--width": "NUMBER",
        "--map": "PATH",
        "--shed": "PATH",
        "--areas": "{lawn,path},...",
        "--owners": "TEXT,...",
        "--depths": "JSON",
        "--code": "TEXT",
        "--angle": "N",
        "--stops": "TEXT,...",
    }.items():
        assert told[told.index(flag) + 1] == value


@pytest.mark.parametrize(
    "name", ["a,b.png", "[x].png", '"q".png', "it's.png", "{1}.png", " blank .png", "7", "bad\udcff", "a\\b"]
)
def test_names_of_files_are_taken_as_they_are(name):
    class Files(BaseSettings):
        model_config = command_line("files")

        files: CliPositionalArg[list[Path]]

    assert read_options(Files, [name, "other"]).files == [Path(name), Path("other")]
