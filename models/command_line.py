"""The command-line kit of both programs: options are typed models, from which flags, help and checks come."""

from pydantic import ValidationError
from pydantic_settings import SettingsConfigDict


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


def explain_options(error: ValidationError, *, env_prefix: str = "", subcommands: bool = False) -> str:
    """A line for each value that does not fit: the flag, the variable if there are variables, the value, the reason.

    If the options are those of `subcommands`, the name of the chosen one is not told.
    """
    lines = []
    for detail in error.errors():
        name = ".".join(map(str, detail["loc"][subcommands:]))
        reason = detail["msg"].removeprefix("Value error, ")
        variable = f" ({env_prefix}{name.upper()})" if env_prefix else ""
        flag = f"--{name.replace('_', '-')}{variable}" if name else ""
        value = f" = {detail['input']!r}" if name and detail["type"] != "missing" else ""
        lines.append(f"{flag}{value}: {reason}" if name else reason)
    return "\n".join(lines)
