"""Who is let in."""

import hashlib

import pytest

from service.auth.guard import Guard
from service.auth.keys import Scope
from service.auth.rate_limit import RateLimit
from service.config.settings import SettingError
from service.errors import Forbidden, TooManyRequests, Unauthorized


def line(name: str, scopes: str, key: str) -> str:
    return f"{name} {scopes} {hashlib.sha256(key.encode()).hexdigest()}"


KEYS = "\n".join(
    [line("alice", "predict", "one"), line("root", "admin", "two"), line("both", "predict,admin", "three")]
)


NOWHERE = ("192.0.2.1", 5)


def bearing(key: str) -> dict[bytes, bytes]:
    return {b"authorization": f"Bearer {key}".encode()}


@pytest.mark.parametrize(
    ("key", "scope", "name"),
    [("one", "predict", "alice"), ("two", "admin", "root"), ("three", "predict", "both"), ("three", "admin", "both")],
)
def test_a_key_opens_what_its_scopes_name(key: str, scope: Scope, name: str) -> None:
    assert Guard(KEYS, "--api-key-file keys", 1).admit(bearing(key), NOWHERE, scope) == name


@pytest.mark.parametrize(("key", "scope"), [("one", "admin"), ("two", "predict")])
def test_a_key_for_something_else_is_forbidden(key: str, scope: Scope) -> None:
    with pytest.raises(Forbidden, match=f"needs the scope {scope}") as error:
        Guard(KEYS, "--api-key-file keys", 1).admit(bearing(key), NOWHERE, scope)
    assert f'error="insufficient_scope", scope="{scope}"' in error.value.headers["www-authenticate"]


@pytest.mark.parametrize(("headers", "told"), [({}, "an API key is needed"), (bearing("four"), "is not valid")])
def test_without_a_valid_key_nobody_is_let_in(headers: dict[bytes, bytes], told: str) -> None:
    with pytest.raises(Unauthorized, match=told) as error:
        Guard(KEYS, "--api-key-file keys", 1).admit(headers, NOWHERE, "predict")
    challenge = error.value.headers["www-authenticate"]
    assert challenge.startswith("Bearer ")
    assert ("invalid_token" in challenge) == bool(headers)


def test_keys_are_changed_all_at_once_or_not_at_all() -> None:
    guard = Guard(KEYS, "--api-key-file keys", 1)
    with pytest.raises(SettingError):
        guard.change_keys(line("new", "predict", "four") + "\nbroken")
    assert guard.admit(bearing("one"), NOWHERE, "predict") == "alice"
    guard.change_keys(line("new", "predict", "four"))
    assert guard.admit(bearing("four"), NOWHERE, "predict") == "new"
    with pytest.raises(Unauthorized):
        guard.admit(bearing("one"), NOWHERE, "predict")


def limited(lines: str | None) -> Guard:
    """Two requests of each, and no more."""
    return Guard(lines, "--api-key-file keys", 1, RateLimit(1e-3, 2, shared=False))


def test_each_key_has_its_own_limit_wherever_it_comes_from() -> None:
    guard = limited(KEYS)
    for host in ("192.0.2.1", "192.0.2.2"):
        assert guard.admit(bearing("one"), (host, 1), "predict") == "alice"
    with pytest.raises(TooManyRequests) as error:
        guard.admit(bearing("one"), ("192.0.2.3", 1), "predict")
    assert (error.value.key, error.value.headers) == ("alice", {"retry-after": "1000"})
    assert guard.admit(bearing("three"), NOWHERE, "predict") == "both"


def test_who_has_no_key_is_limited_in_trying_some() -> None:
    guard = limited(KEYS)
    for key in ("four", "five"):
        with pytest.raises(Unauthorized):
            guard.admit(bearing(key), NOWHERE, "predict")
    with pytest.raises(TooManyRequests):
        guard.admit(bearing("six"), NOWHERE, "predict")
    assert guard.admit(bearing("one"), NOWHERE, "predict") == "alice"


@pytest.mark.parametrize(
    ("hosts", "another"),
    [
        (["192.0.2.1", "192.0.2.1"], "192.0.2.2"),
        (["2001:db8::1", "2001:db8::ffff:ffff:ffff:ffff"], "2001:db8:0:1::1"),  # of one network of 64 bits
        (["fe80::1%eth0", "fe80::2%eth0"], "fe80:0:0:1::1"),
        (["::ffff:192.0.2.1", "::ffff:192.0.2.1"], "::ffff:192.0.2.2"),
    ],
)
def test_without_keys_each_address_has_its_limit(hosts: list[str], another: str) -> None:
    guard = limited(None)
    for host in hosts:
        assert guard.admit({}, (host, 1), "predict") == ""
    with pytest.raises(TooManyRequests):
        guard.admit({}, (hosts[0], 2), "predict")
    assert guard.admit({}, (another, 1), "predict") == ""
