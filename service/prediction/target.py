"""Which model a predict route's path names."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

PREDICT_ROUTES = (
    "/predict",
    "/models/{model}/predict",
    "/models/{model}/versions/{version}/predict",
    "/predictions/{model}",  # as TorchServe has it
)
_PATTERNS = [(route, re.compile(re.sub(r"{(\w+)}", r"(?P<\1>[^/]+)", route))) for route in PREDICT_ROUTES]


@dataclass(frozen=True, slots=True)
class Target:
    """A predict route, and the model and version in its path, None where it names none."""

    route: str
    model: str | None = None
    version: str | None = None


_DEFAULT = Target("/predict")


def parse_target(path: bytes) -> Target | None:
    """What a URL's path, still percent-encoded, names; None if it is no predict route."""
    if path == b"/predict":
        return _DEFAULT
    text = unquote(path.decode("latin-1"))
    for route, pattern in _PATTERNS:
        if match := pattern.fullmatch(text):
            return Target(route, **match.groupdict())
    return None
