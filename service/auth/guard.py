"""Whether a request is let in, by the key that it carries."""

from collections.abc import Mapping

from service.auth.key_counts import NOBODY, KeyCounts
from service.auth.keys import KeyRing, Scope, presented_key, read_keys
from service.errors import Forbidden, Unauthorized
from service.settings import Settings

_ORIGIN = "--api-key-file or RESNET_SERVE_API_KEYS"


class Guard:
    """Stands before every route but probes, metrics and documents.

    It is made before the API processes, which inherit it and share its counts; each has its own keys, which the
    supervisor changes by telling all of them.
    """

    def __init__(self, lines: str, api_processes: int) -> None:
        """`lines` of keys; SettingError if one of them is none."""
        self.counts = KeyCounts(api_processes)
        self.change_keys(lines)

    def change_keys(self, lines: str) -> None:
        """From now on only these are good; SettingError, and nothing changes, if one of the lines is no key."""
        self.keys = KeyRing(lines, _ORIGIN)
        self.counts.add_names(key.name for key in self.keys.keys)

    def admit(self, headers: Mapping[bytes, bytes], scope: Scope) -> str:
        """The name of the request's key, which is good for this scope; Unauthorized, Forbidden."""
        given = presented_key(headers)
        key = None if given is None else self.keys.find(given)
        if key is None:
            self.counts.count(NOBODY, "unknown")
            if given is not None:
                raise Unauthorized("the API key is not valid", is_wrong=True)
            raise Unauthorized("an API key is needed: send it as Authorization: Bearer KEY, or as X-API-Key: KEY")
        if scope not in key.scopes:
            self.counts.count(key.name, "forbidden")
            raise Forbidden(f"the key {key.name!r} is not good for this: it needs the scope {scope}", scope, key.name)
        self.counts.count(key.name, "admitted")
        return key.name


def make_guard(settings: Settings, api_processes: int) -> Guard | None:
    """The guard that the settings ask for, None if everyone may ask; SettingError."""
    lines = read_keys(settings)
    return None if lines is None else Guard(lines, api_processes)
