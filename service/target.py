"""Which model a predict route's path names."""

import re
from dataclasses import dataclass

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


def parse_target(path: str) -> Target | None:
    """What a path names; None if it is no predict route."""
    if path == "/predict":
        return Target("/predict")
    for route, pattern in _PATTERNS:
        if match := pattern.fullmatch(path):
            return Target(route, **match.groupdict())
    return None
