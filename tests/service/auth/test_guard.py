"""Who is let in."""

import hashlib

import pytest

from service.auth.guard import Guard
from service.auth.keys import Scope
from service.errors import Forbidden, Unauthorized
from service.settings import SettingError


def line(name: str, scopes: str, key: str) -> str:
    return f"{name} {scopes} {hashlib.sha256(key.encode()).hexdigest()}"


KEYS = "\n".join(
    [line("alice", "predict", "one"), line("root", "admin", "two"), line("both", "predict,admin", "three")]
)


def bearing(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


@pytest.mark.parametrize(
    ("key", "scope", "name"),
    [("one", "predict", "alice"), ("two", "admin", "root"), ("three", "predict", "both"), ("three", "admin", "both")],
)
def test_a_key_opens_what_its_scopes_name(key: str, scope: Scope, name: str) -> None:
    assert Guard(KEYS, 1).admit(bearing(key), scope) == name


@pytest.mark.parametrize(("key", "scope"), [("one", "admin"), ("two", "predict")])
def test_a_key_for_something_else_is_forbidden(key: str, scope: Scope) -> None:
    with pytest.raises(Forbidden, match=f"needs the scope {scope}") as error:
        Guard(KEYS, 1).admit(bearing(key), scope)
    assert f'error="insufficient_scope", scope="{scope}"' in error.value.headers["www-authenticate"]


@pytest.mark.parametrize(("headers", "told"), [({}, "an API key is needed"), (bearing("four"), "is not valid")])
def test_without_a_valid_key_nobody_is_let_in(headers: dict[bytes, bytes], told: str) -> None:
    with pytest.raises(Unauthorized, match=told) as error:
        Guard(KEYS, 1).admit(headers, "predict")
    challenge = error.value.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    assert ("invalid_token" in challenge) == bool(headers)


def test_keys_are_changed_all_at_once_or_not_at_all() -> None:
    guard = Guard(KEYS, 1)
    with pytest.raises(SettingError):
        guard.change_keys(line("new", "predict", "four") + "\nbroken")
    assert guard.admit(bearing("one"), "predict") == "alice"
    guard.change_keys(line("new", "predict", "four"))
    assert guard.admit(bearing("four"), "predict") == "new"
    with pytest.raises(Unauthorized):
        guard.admit(bearing("one"), "predict")
