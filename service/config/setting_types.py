"""What values settings may have, where that is more than a type and its bounds: of the server, and of commands."""

import os
import re
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field
from pydantic_settings import NoDecode

from models.images.image_type import ImageType
from models.images.optional_readers import lacks

MOST_SECONDS = 86_400.0  # a day; with times without end there is no deadline, and clocks in nanoseconds run over

Positive = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0, le=MOST_SECONDS)]
SecondsOrNone = Annotated[float, Field(ge=0, le=MOST_SECONDS)]
"""0 turns off what has this time."""

EngineName = Annotated[
    Literal["auto", "onnxruntime", "tensorrt", "torch"],
    Field(description="what runs the networks; auto is onnxruntime"),
]
DeviceName = Annotated[
    Literal["auto", "cpu", "cuda"], Field(description="auto is cuda where nvidia-smi lists a GPU, else cpu")
]
PrecisionName = Literal["auto", "fastest", "fp32", "tf32", "fp16", "bf16", "int8"]

CacheDir = Annotated[
    Path | None, Field(description="where models from an address are copied; default: resnet-serve in ~/.cache")
]
FetchTimeout = Annotated[Seconds, Field(description="time to copy models from an address, in seconds")]


MODEL_VALUES = '{"NAME": {"max_batch_size": 8, "batch_delay": 0.002}}'


def names_models(values: object) -> object:
    """The values if they are objects by the names of models; else ValueError."""
    if not isinstance(values, Mapping) or any(not isinstance(own, Mapping | BaseModel) for own in values.values()):
        raise ValueError(f"must be an object such as {MODEL_VALUES}")
    return values


def _can_be_looked_up(host: str) -> str:
    try:
        host.encode("idna")  # as `socket` does, whose UnicodeError is no OSError
    except UnicodeError as error:
        raise ValueError("is no address and no name that a machine can have") from error
    return host


Host = Annotated[str, AfterValidator(_can_be_looked_up)]
"""An address or a name, which this machine may have or not."""


def _names_version(shadow: str) -> str:
    if not re.fullmatch(r"[^/.][^/]*/[1-9][0-9]{0,8}", shadow):
        raise ValueError("must be a model and one of its versions, such as digits/3")
    return shadow


ShadowName = Annotated[str, AfterValidator(_names_version)]
"""A model and its version."""


def _is_prefix(path: str) -> str:
    if not re.fullmatch(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~-]+)*", path):
        raise ValueError("must be a path such as /digits, with / at its beginning, not at its end, without . and ..")
    return path


RootPath = Annotated[str, AfterValidator(_is_prefix)]
"""A path without an end of its own, empty for none."""


def _split(value: object) -> object:
    return [name.strip().lower() for name in value.split(",")] if isinstance(value, str) else value


def _split_if_any(value: object) -> object:
    return () if value == "" else _split(value)


def _can_be_read(kind: ImageType) -> ImageType:
    if lacking := lacks(kind):
        raise ValueError(f"needs {lacking}")
    return kind


ImageTypes = Annotated[
    tuple[Annotated[ImageType, AfterValidator(_can_be_read)], ...],
    NoDecode,
    BeforeValidator(_split),
    Field(min_length=1),
]
"""Names of types with commas between them."""


_ORIGIN = re.compile(r"(?P<scheme>https?)://(?:\[[0-9a-f:.]+\]|[a-z0-9._-]+)(?::(?P<port>[0-9]{1,5}))?")


def _as_browsers_send(origin: str) -> str:
    """The origin without the port that its scheme has anyway, which no browser tells."""
    if not (parts := _ORIGIN.fullmatch(origin.lower())) or int(parts["port"] or 0) > 65535:
        raise ValueError("name each origin, such as https://example.org, without a path")
    return parts[0].removesuffix({"http": ":80", "https": ":443"}[parts["scheme"]])


Origins = Annotated[
    tuple[Annotated[str, AfterValidator(_as_browsers_send)], ...], NoDecode, BeforeValidator(_split_if_any)
]
"""Origins with commas between them, empty for none."""


def _can_be_verified(key: Path) -> Path:
    if find_spec("model_signing") is None or find_spec("OpenSSL") is None:
        raise ValueError("needs OpenSSF Model Signing: pip install 'resnet-serve[signing]'")
    return key


SigningKey = Annotated[
    Annotated[Path, AfterValidator(_can_be_verified)] | None,
    Field(description="serve only models signed with this key, a public one in a PEM file"),
]

_TRACED_BY = {
    "OTEL_TRACES_EXPORTER": "otlp",
    "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
    "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf",
}
"""Variables of OpenTelemetry that could ask for another exporter than ours."""


def _can_be_traced(wanted: bool) -> bool:
    if not wanted:
        return False
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.sdk") is None:
        raise ValueError("needs OpenTelemetry's SDK and its OTLP exporter: pip install 'resnet-serve[tracing]'")
    for name, value in _TRACED_BY.items():
        if (given := os.environ.get(name, value)) != value:
            raise ValueError(f"exports by {value}, but {name} is {given}: unset it, or turn this off")
    return True


WantsTraces = Annotated[bool, AfterValidator(_can_be_traced)]


def _is_rate(per_s: float) -> float:
    if 0 < per_s < 1 / MOST_SECONDS:
        raise ValueError(f"is less than one request a day: give {1 / MOST_SECONDS:.3g} or more, or 0 for no limit")
    return per_s


Rate = Annotated[float, Field(ge=0, le=1_000_000), AfterValidator(_is_rate)]
"""Requests a second, 0 for as many as come."""

_SHARES = {"off": None, "errors": 0.0, "all": 1.0}


def _success_share(value: object) -> float | None:
    if isinstance(value, str) and value in _SHARES:
        return _SHARES[value]
    with suppress(ValueError):
        if isinstance(value, int | float | str) and 0 <= float(value) <= 1:
            return float(value)
    raise ValueError("must be off, errors, all or a number from 0 to 1")


SuccessShare = Annotated[float | None, BeforeValidator(_success_share)]
"""The share of requests that end well which have a line in the access log; None if there is no such log."""
