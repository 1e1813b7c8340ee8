"""Every module has a test module at the mirrored path, or a row in `tests/README.md` that names the test of it."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("service", "models", "training")

ROW = re.compile(r"^\| `(?P<module>[\w/]+\.py)` \| (?P<tests>[^|]+) \|", re.MULTILINE)
NAMED = re.compile(r"`(tests/[\w/.-]+)`")


def modules(package: str) -> list[str]:
    """A package's modules with something in them to test, by their path in the checkout."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return [str(path.relative_to(ROOT)) for path in paths if path.name != "__init__.py"]


def mirrored(module: str) -> Path:
    """Where the test module of a module is, if it has one."""
    path = Path(module)
    return ROOT / "tests" / path.parent / f"test_{path.name}"


def rows() -> dict[str, list[str]]:
    """The tests that the table names for each module."""
    found = list(ROW.finditer((ROOT / "tests" / "README.md").read_text()))
    table = {row["module"]: NAMED.findall(row["tests"]) for row in found}
    assert len(table) == len(found), "a module has two rows"
    return table


def untested(names: list[str], table: dict[str, list[str]]) -> list[str]:
    return [name for name in names if name not in table and not mirrored(name).exists()]


@pytest.mark.parametrize("package", PACKAGES)
def test_every_module_has_a_mirrored_test_module_or_a_row(package: str) -> None:
    names = modules(package)
    assert len(names) > 10
    assert untested(names, rows()) == []
    assert untested([*names, f"{package}/new.py"], rows()) == [f"{package}/new.py"]


def test_rows_are_of_modules_that_are_there_and_have_no_mirrored_test_module() -> None:
    assert [module for module in rows() if not (ROOT / module).is_file()] == []
    assert [module for module in rows() if mirrored(module).exists()] == []


def test_rows_name_tests_that_are_there() -> None:
    assert [module for module, tests in rows().items() if not tests] == []
    assert [test for tests in rows().values() for test in tests if not (ROOT / test).is_file()] == []


def is_mirrored(test: str, folder: Path) -> bool:
    """Whether a test module is of a module in the folder: of all of it, or, `test_<module>_<noun>.py`, of a part."""
    words = test.removeprefix("test_").removesuffix(".py").split("_")
    return any((folder / f"{'_'.join(words[:end])}.py").exists() for end in range(1, len(words) + 1))


def unmirrored(package: str) -> Iterator[str]:
    """Test modules in a mirrored folder that mirror no module."""
    for folder in sorted(path for path in (ROOT / package).iterdir() if path.is_dir()):
        tests = ROOT / "tests" / package / folder.name
        for path in sorted(tests.glob("test_*.py")):
            if not is_mirrored(path.name, folder):
                yield str(path.relative_to(ROOT))


def test_a_folder_of_the_service_has_test_modules_of_its_own_modules_only() -> None:
    """What needs a whole server to be shown is one level above."""
    assert list(unmirrored("service")) == []
    folder = ROOT / "service" / "batching"
    assert is_mirrored("test_batcher.py", folder)
    assert is_mirrored("test_batcher_deaths.py", folder)
    assert not is_mirrored("test_batch.py", folder)
