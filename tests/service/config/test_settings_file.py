"""Settings from a TOML file: behind flags and environment, and nothing misspelt passes."""

import os
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from pydantic_settings import CliApp, SettingsError

from service.config.settings import Settings
from tests.service.served import environment

FILE = """
# A comment.
port = 9001
workers = 3
request_timeout = 2
image_types = ["png", "tiff"]
access_log = 0.25
compile = true

[batching.plain]
max_batch_size = 8
"""


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)


def parse(*flags: str | Path) -> Settings:
    return CliApp.run(Settings, cli_args=list(map(str, flags)))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "serve.toml"
    path.write_text(FILE)
    return path


def values(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(
        include={"port", "workers", "request_timeout", "image_types", "access_log", "compile", "batching", "grace"}
    )


def test_a_file_holds_the_same_settings(file: Path) -> None:
    assert values(parse("--config", file)) == {
        "port": 9001,
        "workers": 3,
        "request_timeout": 2.0,
        "image_types": ("png", "tiff"),
        "access_log": 0.25,
        "compile": True,
        "batching": {"plain": {"max_batch_size": 8, "batch_delay": None}},
        "grace": 8.0,
    }


def test_a_file_may_be_one_of_windows(file: Path) -> None:
    file.write_bytes(b"\xef\xbb\xbf" + FILE.replace("\n", "\r\n").encode())
    assert parse("--config", file).port == 9001


def test_a_flag_beats_a_variable_beats_the_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RESNET_SERVE_CONFIG", str(file))
    assert parse().port == 9001
    monkeypatch.setenv("RESNET_SERVE_PORT", "9002")
    assert parse().port == 9002
    assert parse("--port", "9003").port == 9003
    assert parse("--port", "8000").port == 8000  # also if it is the default
    assert parse("--port", "9003").workers == 3


def test_a_file_that_the_flag_names_beats_that_of_the_variable(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = file.with_name("other.toml")
    other.write_text("port = 9009")
    monkeypatch.setenv("RESNET_SERVE_CONFIG", str(file))
    assert parse("--config", other).port == 9009


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", ["'prot'", "did you mean port?"]),
        ("max-batch-size = 8", ["'max-batch-size'", "did you mean max_batch_size?"]),
        ("[server]\nport = 1", ["'server'"]),
        ('config = "other.toml"', ["'config'"]),
        ("one = 1\ntwo = 2", ["'one'", "'two'"]),
        ("workers = 1\nport = = 1", ["is not TOML", "line 2"]),
        ("port = '\udcff'", ["UTF-8"]),
    ],
)
def test_what_is_no_setting_is_an_error_with_the_nearest_name(file: Path, text: str, words: list[str]) -> None:
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError) as told:
        parse("--config", file)
    assert all(word in str(told.value) for word in [str(file), *words])


def test_a_file_that_is_missing_is_an_error() -> None:
    with pytest.raises(SettingsError, match="--config /nowhere cannot be read"):
        parse("--config", "/nowhere")


def test_a_value_that_does_not_fit_is_refused(file: Path) -> None:
    file.write_text("port = 70000")
    with pytest.raises(ValidationError, match="port"):
        parse("--config", file)
    file.write_text("[batching.plain]\nmax_batch = 8")
    with pytest.raises(ValidationError, match="max_batch"):
        parse("--config", file)
