"""Files of keys: what is taken, what is refused, and what an error may tell."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from service.auth.keys import KeyRing, make_key, origin_of, presented_key, read_keys
from service.config.settings import SettingError, Settings

SECRET = "correct-horse-battery-staple"
DIGEST = hashlib.sha256(SECRET.encode()).hexdigest()  # as `sha256sum` prints it


def ring(*lines: str) -> KeyRing:
    return KeyRing("\n".join(lines), "FILE")


def settings(**given: Any) -> Settings:
    return Settings(_cli_parse_args=False, **given)


def test_a_key_is_found_by_itself_and_by_nothing_near_it() -> None:
    keys = ring("# who may ask", "", f"other admin {'0' * 64}", f"alice predict {DIGEST.upper()}")
    found = keys.find(SECRET.encode())
    assert found is not None
    assert (found.name, found.scopes) == ("alice", {"predict"})
    for wrong in (b"", SECRET[:-1].encode(), SECRET.encode() + b" ", SECRET.upper().encode(), DIGEST.encode(), b"\xff"):
        assert keys.find(wrong) is None


def test_a_file_may_be_one_of_windows(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_bytes(f"\ufeffalice predict {DIGEST}\r\nbob admin {'0' * 64}\r\n".encode())
    lines = read_keys(settings(api_key_file=file))
    assert lines is not None
    assert [key.name for key in ring(lines).keys] == ["alice", "bob"]


def test_a_name_may_have_two_keys_while_they_are_exchanged() -> None:
    keys = ring(f"alice predict {DIGEST}", f"alice predict,admin {hashlib.sha256(b'new').hexdigest()}")
    assert [(key.name, key.scopes) for key in map(keys.find, (SECRET.encode(), b"new")) if key] == [
        ("alice", {"predict"}),
        ("alice", {"predict", "admin"}),
    ]


def test_one_key_is_not_of_two_names_or_scopes_and_a_line_may_stand_twice() -> None:
    """Else the last one would hold, with whatever it may do."""
    line = f"alice predict {DIGEST}"
    assert ring(line, line).find(SECRET.encode()) == ring(line).find(SECRET.encode())
    for other in (f"bob predict {DIGEST}", f"alice predict,admin {DIGEST.upper()}"):
        with pytest.raises(SettingError, match="FILE, lines 1 and 2: they have one and the same key"):
            ring(line, other)


@pytest.mark.parametrize("name", ["_alice", "-alice", ".alice", "älice", "", "a" * 65, "alice smith"])
def test_a_name_that_is_none_is_told_all_that_it_must_be(name: str) -> None:
    with pytest.raises(SettingError, match=r"64 of a-z, A-Z, 0-9, .* the first a letter or a digit"):
        make_key(name, frozenset({"predict"}))


def test_a_new_key_is_found_by_its_line_and_no_two_are_alike() -> None:
    key, kept = make_key("alice", frozenset({"admin", "predict"}))
    found = ring(str(kept)).find(key.encode())
    assert found == kept
    assert len(key) >= 43  # 256 bits in base64
    assert make_key("alice", frozenset({"predict"}))[0] != key


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"alice {SECRET}", "FILE, line 2: it has 2 words"),
        (f"alice predict {SECRET}", "FILE, line 2: its last word is no SHA-256"),
        (f"alice predict {DIGEST} extra", "FILE, line 2: it has 4 words"),
        (f"alice predict,root {DIGEST}", "FILE, line 2: 1 of its scopes are unknown; there are predict and admin"),
        (f"{SECRET}/ predict {DIGEST}", "FILE, line 2: the name must be"),
        (f"{'a' * 65} predict {DIGEST}", "FILE, line 2: the name must be"),
    ],
)
def test_a_line_that_is_no_key_is_named_by_its_number_and_never_shown(line: str, told: str) -> None:
    with pytest.raises(SettingError) as error:
        ring("# comment", line)
    assert str(error.value).startswith(told)
    assert SECRET not in str(error.value)


def test_no_key_at_all_is_an_error_rather_than_a_server_that_refuses_everyone() -> None:
    with pytest.raises(SettingError, match="there is no key in it"):
        ring("# nobody")


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ({b"authorization": b"Bearer abc"}, b"abc"),
        ({b"authorization": b"bearer  abc"}, b"abc"),
        ({b"x-api-key": b"abc"}, b"abc"),
        ({b"authorization": b"Basic QWxh", b"x-api-key": b"abc"}, b"abc"),  # a proxy's own
        ({b"authorization": b"Basic QWxh"}, None),
        ({b"authorization": b"Bearer"}, b""),
        ({}, None),
    ],
)
def test_a_key_comes_in_either_field(headers: Mapping[bytes, bytes], key: bytes | None) -> None:
    assert presented_key(headers) == key


def test_keys_come_from_the_file_and_the_variable(tmp_path: Path) -> None:
    assert read_keys(settings()) is None
    (tmp_path / "keys").write_text(f"alice predict {DIGEST}\n")
    variable = SecretStr(f"bob admin {'0' * 64}; carol admin {'1' * 64}")
    lines = read_keys(settings(api_key_file=tmp_path / "keys", api_keys=variable))
    assert [key.name for key in ring(lines or "").keys] == ["alice", "bob", "carol"]


def test_errors_name_the_place_that_is_set() -> None:
    variable = SecretStr(f"bob admin {'0' * 64}")
    assert origin_of(settings(api_key_file=Path("keys"))) == "--api-key-file keys"
    assert origin_of(settings(api_keys=variable)) == "--api-keys (RESNET_SERVE_API_KEYS)"
    assert origin_of(settings(api_keys=SecretStr(""))) == "--api-keys (RESNET_SERVE_API_KEYS)"
    both = settings(api_key_file=Path("keys"), api_keys=variable)
    assert origin_of(both) == "--api-key-file keys with --api-keys (RESNET_SERVE_API_KEYS)"


@pytest.mark.parametrize("variable", [None, SecretStr(f"bob admin {'0' * 64}; carol admin {'1' * 64}")])
def test_an_error_tells_the_line_of_the_file(tmp_path: Path, variable: SecretStr | None) -> None:
    (tmp_path / "keys").write_text(f"alice predict {DIGEST}\nmallory predict\n")
    with pytest.raises(SettingError, match="line 2: it has 2 words"):
        ring(read_keys(settings(api_key_file=tmp_path / "keys", api_keys=variable)) or "")


def test_lines_of_the_variable_are_numbered_behind_those_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(f"alice predict {DIGEST}\n")
    with pytest.raises(SettingError, match="line 2: it has 2 words"):
        ring(read_keys(settings(api_key_file=tmp_path / "keys", api_keys=SecretStr("bob admin"))) or "")


@pytest.mark.parametrize(("content", "reason"), [(None, "No such file"), (b"\xff\xfe", "it is no text in UTF-8")])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, content: bytes | None, reason: str) -> None:
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingError, match=f"--api-key-file {file} cannot be read: {reason}"):
        read_keys(settings(api_key_file=file))


def test_keys_are_masked_wherever_settings_are_shown() -> None:
    shown = settings(api_keys=f"alice predict {DIGEST}")
    assert DIGEST not in f"{shown!r} {shown} {shown.model_dump_json()}"
