"""Recipes as files, which is how the command takes them."""

import json
from pathlib import Path
from typing import Any

from training.loop.recipe import Recipe


def write_recipe(path: Path, recipe: Recipe) -> str:
    """Write the recipe as TOML; return the path."""
    table = recipe.to_table()
    tables = {name: value for name, value in table.items() if isinstance(value, dict)}
    lines = _lines({name: value for name, value in table.items() if name not in tables})
    for name, values in tables.items():
        lines += [f"[{name}]", *_lines(values)]
    path.write_text("\n".join(lines) + "\n")
    return str(path)


def _lines(values: dict[str, Any]) -> list[str]:
    """Strings, numbers, booleans and lists are written alike in JSON and TOML; TOML has no null."""
    return [f"{name} = {json.dumps(value)}" for name, value in values.items() if value is not None]
