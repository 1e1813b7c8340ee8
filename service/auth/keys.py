"""API keys: the name and the scopes of whoever holds one. Of a key itself only its SHA-256 is known here."""

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Literal, get_args

from service.config.settings import ENV_PREFIX, SettingError, Settings

Scope = Literal["predict", "admin"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

KEY_BYTES = 32  # of randomness in a new key: too many to be guessed, so a quick digest keeps it secret

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class ApiKey:
    """One key: whose it is, what it is good for, and its SHA-256."""

    name: str
    scopes: frozenset[str]
    digest: bytes

    def __str__(self) -> str:
        """The key as a line of a file of keys."""
        return f"{self.name} {','.join(scope for scope in SCOPES if scope in self.scopes)} {self.digest.hex()}"


class KeyRing:
    """All keys that are good now. A name may have several, the old and the new one while they are exchanged."""

    def __init__(self, lines: str, origin: str) -> None:
        """`lines`: a key each, `NAME SCOPE[,SCOPE] SHA256`; SettingError if one is malformed or there is none."""
        numbered = list(_parse(lines, origin))
        self.keys = tuple(key for _, key in numbered)
        meant: dict[bytes, tuple[int, ApiKey]] = {}
        for number, key in numbered:
            first, other = meant.setdefault(key.digest, (number, key))
            if other != key:
                raise SettingError(
                    f"{origin}, lines {first} and {number}: they have one and the same key, for different names or "
                    "scopes: take one of them away"
                )
        if not self.keys:
            raise SettingError(
                f"{origin}: there is no key in it, so every request would be refused; `resnet-serve key NAME` makes one"
            )

    def find(self, key: bytes) -> ApiKey | None:
        """The key that this is, None for any other; how long it takes tells nothing about how near it came."""
        digest, found = sha256(key).digest(), None
        for candidate in self.keys:
            if compare_digest(candidate.digest, digest):
                found = candidate
        return found


def make_key(name: str, scopes: frozenset[str]) -> tuple[str, ApiKey]:
    """A new random key, and what is to be kept of it; SettingError if the name is none."""
    key = secrets.token_urlsafe(KEY_BYTES)
    return key, ApiKey(_check_name(name, "the key's name"), scopes, sha256(key.encode()).digest())


def presented_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The key that a request carries: as `Authorization: Bearer KEY` or `X-API-Key: KEY`; None without one."""
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else headers.get(b"x-api-key")


def origin_of(settings: Settings) -> str:
    """Where the settings have keys, as errors call it."""
    file, lines = settings.api_key_file, settings.api_keys
    places = {f"--api-key-file {file}": file, f"--api-keys ({ENV_PREFIX}API_KEYS)": lines}
    return " with ".join([place for place, given in places.items() if given is not None])


def read_keys(settings: Settings) -> str | None:
    """The lines of keys that the settings name, as they are now; None if they name none. SettingError.

    The file's come first, and are numbered through.
    """
    given = settings.api_keys
    lines = None if given is None else given.get_secret_value().replace(";", "\n")
    if settings.api_key_file is None:
        return lines
    try:
        in_file = settings.api_key_file.read_text(encoding="utf-8-sig").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text in UTF-8"
        raise SettingError(f"--api-key-file {settings.api_key_file} cannot be read: {reason}") from error
    return in_file if lines is None else f"{in_file}\n{lines}"


def _parse(lines: str, origin: str) -> Iterator[tuple[int, ApiKey]]:
    """The keys in these lines, with the lines' numbers.

    No error shows any of a line, in which somebody may have put the key itself.
    """
    for number, line in enumerate(lines.splitlines(), 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        place = f"{origin}, line {number}"
        if len(words) != 3:
            raise SettingError(f"{place}: it has {len(words)} words; a key is NAME SCOPE[,SCOPE] SHA256-OF-THE-KEY")
        name, scopes, digest = words
        if unknown := set(scopes.split(",")) - set(SCOPES):
            raise SettingError(f"{place}: {len(unknown)} of its scopes are unknown; there are {' and '.join(SCOPES)}")
        if not _DIGEST.fullmatch(digest.lower()):
            raise SettingError(
                f"{place}: its last word is no SHA-256 in hex; `resnet-serve key NAME` prints such a line"
            )
        name = _check_name(name, f"{place}: the name")
        yield number, ApiKey(name, frozenset(scopes.split(",")), bytes.fromhex(digest))


def _check_name(name: str, what: str) -> str:
    if not _NAME.fullmatch(name):
        raise SettingError(
            f"{what} must be at most 64 of a-z, A-Z, 0-9, dots, dashes and underscores, the first a letter or a digit"
        )
    return name
