"""How strictly documents are read, and how a value that does not validate is told: in one line."""

import re

from pydantic import ConfigDict, ValidationError

_CLASS = re.compile(r" or instance of \w+$")

STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""Nothing unknown, nothing converted, only finite numbers."""


def explain(error: ValidationError, document: str = "document") -> str:
    """Return `field.subfield: what is wrong; ...`; an error of the whole is told of the `document`."""
    return "; ".join(
        f"{'.'.join(map(str, problem['loc'])) or document}: {_told(problem['msg'])}"
        for problem in error.errors(include_url=False, include_input=False)
    )


def _told(message: str) -> str:
    """A message without pydantic's own words, and without the names of our classes."""
    return _CLASS.sub("", message.removeprefix("Value error, "))
