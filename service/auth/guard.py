"""Whether a request is let in: by the key that it carries, and by how many have come before it."""

from collections.abc import Mapping
from math import ceil
from socket import AF_INET6, inet_pton

from service.auth.key_counts import NO_KEY, KeyCounts
from service.auth.keys import KeyRing, Scope, origin_of, presented_key, read_keys
from service.auth.rate_limit import RateLimit
from service.config.settings import Settings
from service.errors import Forbidden, TooManyRequests, Unauthorized


class Guard:
    """Stands before every route but probes, metrics and documents.

    It is made before the API processes, which inherit it and share its counts and its limit; each has its own keys,
    which the supervisor changes by telling all of them.
    """

    def __init__(self, lines: str | None, origin: str, api_processes: int, limit: RateLimit | None = None) -> None:
        """`lines` of keys from `origin`, None if none is needed; SettingError if one of them is no key."""
        self.counts = KeyCounts(api_processes)
        self._limit, self._origin = limit, origin
        self._keys: KeyRing | None = None
        if lines is not None:
            self.change_keys(lines)

    @property
    def has_keys(self) -> bool:
        """Whether a request needs a key."""
        return self._keys is not None

    def has_key_for(self, scope: Scope) -> bool:
        """Whether there is a key that is good for this."""
        return self._keys is not None and any(scope in key.scopes for key in self._keys.keys)

    def change_keys(self, lines: str) -> None:
        """From now on only these are good; SettingError, and nothing changes, if one of the lines is no key."""
        self._keys = KeyRing(lines, self._origin)
        self.counts.add_names(key.name for key in self._keys.keys)

    def admit(self, headers: Mapping[bytes, bytes], client: tuple[str, int] | None, scope: Scope) -> str:
        """The name of the request's key, empty if none is needed; Unauthorized, Forbidden, TooManyRequests.

        Who has no valid key is limited by address: also in trying keys.
        """
        given = presented_key(headers) if self._keys else None
        key = self._keys.find(given) if self._keys and given is not None else None
        name = key.name if key else NO_KEY
        if self._limit and (wait_s := self._limit.take(f"key {name}" if key else _address(client))):
            self.counts.count(name, "limited")
            raise TooManyRequests("too many requests: come again after Retry-After", ceil(wait_s), name)
        if self._keys and key is None:
            self.counts.count(name, "unknown")
            if given is not None:
                raise Unauthorized("the API key is not valid", is_wrong=True)
            raise Unauthorized("an API key is needed: send it as Authorization: Bearer KEY, or as X-API-Key: KEY")
        if key and scope not in key.scopes:
            self.counts.count(name, "forbidden")
            raise Forbidden(f"the key {name!r} is not good for this: it needs the scope {scope}", scope, name)
        self.counts.count(name, "admitted")
        return name


def _address(client: tuple[str, int] | None) -> str:
    """Whom an address stands for: an IPv6 network of 64 bits is one client's, who has all of its addresses."""
    host = client[0] if client else ""
    if ":" not in host or "." in host:
        return host
    return inet_pton(AF_INET6, host.partition("%")[0])[:8].hex()


def make_guard(settings: Settings, api_processes: int) -> Guard | None:
    """The guard that the settings ask for, None if everyone may ask as often as they like; SettingError."""
    lines, per_s = read_keys(settings), settings.rate_limit
    if lines is None and not per_s:
        return None
    limit = None
    if per_s:
        limit = RateLimit(per_s, settings.rate_burst or max(1, ceil(per_s)), shared=api_processes > 1)
    return Guard(lines, origin_of(settings), api_processes, limit)
