"""`resnet-serve key`: a new API key, and the line that is kept of it."""

import sys
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, CliPositionalArg, NoDecode

from models.command_line import command_line
from service.auth.keys import SCOPES, Scope, make_key


def _split(value: object) -> object:
    return [scope.strip() for scope in value.split(",")] if isinstance(value, str) else value


class NewKey(BaseSettings):
    """Make an API key: the key itself goes to standard error, once, its line for --api-key-file to standard output."""

    model_config = command_line("resnet-serve key")

    name: CliPositionalArg[str] = Field(description="whose it is; told in log and metrics")
    scopes: Annotated[tuple[Scope, ...], NoDecode, BeforeValidator(_split)] = Field(
        ("predict",), description=f"what it is good for, of {', '.join(SCOPES)}"
    )


def new_key(options: NewKey) -> int:
    """Print both; the exit code."""
    key, kept = make_key(options.name, frozenset(options.scopes))
    print(kept)  # noqa: T201
    sys.stdout.flush()
    print(f"the key, which is shown this once: {key}", file=sys.stderr)  # noqa: T201
    return 0
