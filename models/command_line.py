"""The command-line kit of both programs: options are typed models, from which flags, help and checks come."""

import io
import json
import os
import re
import signal
import sys
from argparse import Action, RawDescriptionHelpFormatter
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, get_origin

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, SettingsConfigDict, SettingsError

Options = TypeVar("Options", bound=BaseSettings)


def command_line(program: str, *, env_prefix: str = "") -> SettingsConfigDict:
    """How the options of a command are read: `--kebab-case` flags first, then variables with this prefix, if any."""
    return SettingsConfigDict(
        env_prefix=env_prefix,
        cli_prog_name=program,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
        extra="forbid",
    )


def read_options(
    model: type[Options], arguments: list[str], *, exit_on_error: bool = True, subcommands: bool = False
) -> Options:
    """The options that the arguments give, a program's or those of its `subcommands`; `--help` prints them and exits.

    SettingsError if they do not fit, with a line for each value. What argparse finds exits with a usage message, or is
    a SettingsError too, without `exit_on_error`.
    """
    source = _Source(model, formatter_class=_HelpFormatter, cli_exit_on_error=exit_on_error)
    try:
        return CliApp.run(model, cli_args=arguments, cli_settings_source=source)
    except ValidationError as error:
        raise SettingsError(_explain(error, _env_prefix(model), subcommands=subcommands)) from error
    except SettingsError as error:
        if found := _NOT_DECODED.match(str(error)):
            variable = f"{_env_prefix(model)}{found[1].upper()}"
            raise SettingsError(f"{variable} is no JSON: {error.__cause__}") from error
        raise


_NOT_DECODED = re.compile(r'error parsing value for field "(\w+)" from source "EnvSettingsSource"')
"""How pydantic-settings tells of a variable whose value is not the JSON that its field needs."""


def _env_prefix(model: type[BaseSettings]) -> str:
    return model.model_config.get("env_prefix") or ""


class _Source(CliSettingsSource[Any]):
    """Takes names of files as they are, where pydantic-settings strips blanks, parts at commas and reads brackets."""

    def _merge_parsed_list(self, parsed_list: list[str], field_name: str) -> str:
        kinds = [each.field_info.annotation for each in self._parser_map.get(field_name, {}).values()]
        if list[Path] in kinds:
            return json.dumps(parsed_list)
        if any(get_origin(kind) is dict for kind in kinds):
            return _merge_objects(parsed_list, field_name)
        return super()._merge_parsed_list(parsed_list, field_name)


def _merge_objects(texts: list[str], name: str) -> str:
    """The JSON of an option that is given once or several times; what is no object is left to be refused."""
    try:
        values = [json.loads(text) for text in texts]
    except ValueError as error:
        raise SettingsError(f"{flag(name)} is no JSON: {error}") from error
    for text, value in zip(texts, values, strict=True):
        if not isinstance(value, dict):
            return text
    return json.dumps({key: value for each in values for key, value in each.items()})


_NO_DEFAULT = re.compile(r" \(default: (None|\(\)|\[\]|\{\})?\)$")
"""How pydantic-settings tells that an option has none, or is empty."""


_VALUES = {
    "dict": "JSON",
    "float": "NUMBER",
    "int": "N",
    "Path": "PATH",
    "{Path,str}": "PATH",
    "SecretStr": "TEXT",
    "str": "TEXT",
}
"""What an option takes, by the type that pydantic-settings names."""

_SEVERAL = re.compile(r"tuple\[(.+),\.\.\.\]|list\[(.+)\]")


class _HelpFormatter(RawDescriptionHelpFormatter):
    """Speaks of values instead of Python's types, and tells no default of an option that has none: its description says
    what comes then.
    """

    def _get_help_string(self, action: Action) -> str | None:
        return action.help and _NO_DEFAULT.sub("", action.help)

    def _metavar_formatter(self, action: Action, default_metavar: str) -> Callable[[int], tuple[str, ...]]:
        if isinstance(action.metavar, str):
            action.metavar = _value(action.metavar)
        return super()._metavar_formatter(action, default_metavar)


def _value(of_type: str) -> str:
    """What an option of this type takes; names that are none of a type stay."""
    if several := _SEVERAL.fullmatch(of_type):
        return f"{_value(several[1] or several[2])},..."
    return _VALUES.get(of_type.partition("[")[0], of_type)


def flag(name: str) -> str:
    """The flag of an option of this name."""
    return f"--{name.replace('_', '-')}"


def open_standard_streams() -> None:
    """Have /dev/null as each standard stream that the program was started without: else the next file gets its number,
    and with it whatever libraries write there.
    """
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if opened == fd:
                setattr(sys, name, os.fdopen(fd, "r" if name == "stdin" else "w"))
            else:
                os.close(opened)


def accept_signals() -> None:
    """Reset what may be inherited of signals: SIGCHLD is not ignored, so children are reaped, and none is blocked."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def accept_any_text() -> None:
    """Print names of files that are no text in the terminal's encoding with escapes, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def check_arguments(arguments: list[str]) -> None:
    """Raise SettingsError for `--flag=--`, of which argparse makes a list where a text is expected."""
    for argument in arguments:
        if argument.startswith("--") and argument.endswith("=--"):
            raise SettingsError(f"{argument}: -- is no value; give the flag another, or leave it out")


def _explain(error: ValidationError, env_prefix: str, *, subcommands: bool) -> str:
    """A line for each value that does not fit: flag, variable if there are variables, place inside it, value, reason.

    If the options are those of `subcommands`, the name of the chosen one is not told.
    """
    lines = []
    for detail in error.errors():
        names = [part for part in detail["loc"][subcommands:] if isinstance(part, str)]  # no place in a list
        reason = detail["msg"].removeprefix("Value error, ")
        if not names:
            lines.append(reason)  # it is about several values
            continue
        name, *inside = names
        variable = f" ({env_prefix}{name.upper()})" if env_prefix else ""
        place = f", {'.'.join(inside)}" if inside else ""
        value = "" if detail["type"] == "missing" else f" = {detail['input']!r}"
        lines.append(f"{flag(name)}{variable}{place}{value}: {reason}")
    return "\n".join(lines)
