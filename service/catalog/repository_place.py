"""Where a model repository is: a folder, or the URL of one in a store."""

import re
from pathlib import Path
from typing import Annotated, Final

from pydantic import BeforeValidator

EXTRAS: Final = {"s3": "s3", "gs": "gcs", "hf": "hub", "https": "http", "http": "http"}
"""The schemes that are known, and the extra of this package that each needs."""

_URL = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?P<rest>.*)", re.DOTALL)


def scheme_of(url: str) -> str:
    """What stands before `://`."""
    return url.partition("://")[0]


def _parse_place(value: object) -> object:
    """A URL without slashes at its end, or a path; ValueError for a URL that cannot be meant."""
    if not isinstance(value, str) or (match := _URL.fullmatch(value)) is None:
        return Path(value) if isinstance(value, str) else value
    scheme, rest = match["scheme"].lower(), match["rest"].rstrip("/")
    if scheme not in EXTRAS:
        raise ValueError(
            f"{scheme}:// is not known; give a folder or a URL of {', '.join(f'{one}://' for one in EXTRAS)}"
        )
    if not rest or rest.startswith("/"):
        raise ValueError(f"names no place; give more than {scheme}://")
    host, _, path = rest.partition("/")
    if "@" in host and scheme != "hf":
        raise ValueError("holds a name or password, which logs would show; put them where the store's own tools look")
    if scheme == "hf" and not path:
        raise ValueError("names no repository of the hub; give hf://OWNER/NAME")
    if any(sign in rest for sign in "?#*[]") or ".." in path.split("/"):
        raise ValueError("has ?, #, *, [, ] or .. in it; give the plain address of a folder")
    return f"{scheme}://{rest}"


RepositoryPlace = Annotated[Path | str, BeforeValidator(_parse_place)]
"""A Path is a folder; a text is a URL, of the folder <model>/<version> or of one of the folders above it."""
