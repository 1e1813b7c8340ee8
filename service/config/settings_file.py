"""A file of settings: TOML with the settings' own names."""

import tomllib
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import PydanticBaseSettingsSource, SettingsError

NAMED_BY = "config"
"""The setting that names the file; the file itself cannot hold it."""


class SettingsFile(PydanticBaseSettingsSource):
    """The settings of the file that flags or environment name, if any: it comes behind both."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Not asked for, as the file is read whole."""
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        """Values by the names of settings; SettingsError if the file cannot be read or has another name in it."""
        if (file := self.current_state.get(NAMED_BY)) is None:
            return {}
        try:
            given = tomllib.loads(Path(file).read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise SettingsError(f"--config {file} cannot be read: {error.strerror}") from error
        except UnicodeDecodeError as error:
            raise SettingsError(f"--config {file} is no text in UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"--config {file} is not TOML: {error}") from error
        known = sorted(self.settings_cls.model_fields.keys() - {NAMED_BY})
        if unknown := given.keys() - known:
            raise SettingsError("\n".join(f"--config {file}: {_explain(name, known)}" for name in sorted(unknown)))
        return given


def _explain(name: str, known: list[str]) -> str:
    (nearest,) = get_close_matches(name.replace("-", "_").lower(), known, n=1, cutoff=0)
    return f"there is no setting {name!r}; did you mean {nearest}?"
