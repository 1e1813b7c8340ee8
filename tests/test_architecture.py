"""The map of the house, held against the imports in the files: each folder uses what its row names and no more."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAP = {
    "service": {
        "cli": "commands config catalog process models",
        "commands": "supervisor pools routes http auth worker metrics ipc remote config catalog process root models",
        "supervisor": "pools auth worker metrics ipc remote config catalog process root models",
        "pools": "routes http prediction auth worker metrics ipc config catalog process root models",
        "routes": "http prediction parsing auth catalog root",
        "http": "prediction parsing auth config process root",
        "prediction": "batching parsing auth metrics ipc config catalog process root models",
        "batching": "metrics ipc catalog process root models",
        "parsing": "root models",
        "auth": "ipc config root",
        "worker": "ipc process root models",
        "metrics": "ipc config catalog root models",
        "ipc": "",
        "remote": "catalog process models",
        "config": "catalog root models",
        "catalog": "root models",
        "process": "root",
        "root": "models",
    },
    "training": {
        "cli": "experiments commands root models",
        "experiments": "loop data root models",
        "commands": "onnx_import weights release loop data root models",
        "onnx_import": "release root models",
        "weights": "loop data root models",
        "release": "root models",
        "loop": "data root models",
        "data": "root models",
        "root": "",
    },
    "models": {
        "engines": "networks artifact images machine",
        "networks": "images",
        "artifact": "images root",
        "images": "root",
        "machine": "",
        "root": "",
    },
}
"""Package, folder, what it imports: folders further down in its package, or the package `models` as a whole.

`cli` are the modules `cli` and `__main__`, which stand above the folders, `root` all others beside them.
"""

OURS = {*MAP, "benchmarks", "tests"}
ABOVE = ("cli", "__main__")


@dataclass(frozen=True)
class House:
    """The syntax trees of all modules by their dotted names."""

    trees: dict[str, ast.Module]
    packages: frozenset[str]

    @classmethod
    def of(cls, root: Path, *names: str) -> "House":
        trees, packages = {}, set()
        for path in (path for name in names for path in (root / name).rglob("*.py")):
            module = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
            trees[module] = ast.parse(path.read_text())
            if path.stem == "__init__":
                packages.add(module)
        return cls(trees, frozenset(packages))

    def imports(self) -> Iterator[tuple[str, str]]:
        """Each pair of a module and one that it imports, wherever in it."""
        for module, tree in self.trees.items():
            for node in ast.walk(tree):
                if isinstance(node, ast.Import):
                    yield from ((module, alias.name) for alias in node.names)
                elif isinstance(node, ast.ImportFrom):
                    assert not node.level, f"{module} imports relatively"
                    whole = str(node.module)
                    named = (f"{whole}.{alias.name}" for alias in node.names)
                    yield from ((module, name if name in self.trees else whole) for name in named)

    def folder(self, module: str) -> str:
        """`package/folder`, `package/root` or `package/cli`."""
        package, *inner = module.split(".")
        if len(inner) > 1 or module in self.packages - {package}:
            return f"{package}/{inner[0]}"
        return f"{package}/cli" if inner and inner[0] in ABOVE else f"{package}/root"

    def edges(self) -> dict[tuple[str, str], list[str]]:
        """Each pair of a folder and a folder, or another package, that it imports, with the modules that do."""
        found: dict[tuple[str, str], list[str]] = {}
        for module, target in sorted(self.imports()):
            package, other = module.partition(".")[0], target.partition(".")[0]
            source, used = self.folder(module), self.folder(target) if other == package else other
            if package in MAP and other in OURS and source != used:
                found.setdefault((source, used), []).append(f"{module} imports {target}")
        return found

    def circle(self) -> list[str]:
        """Modules each of which imports the next, the last the first; empty if there are none."""
        graph: dict[str, set[str]] = {}
        for module, target in self.imports():
            graph.setdefault(module, set()).add(target)
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            return list(error.args[1])
        return []

    def homonyms(self) -> set[str]:
        """Names that more than one class has."""
        nodes = (node for tree in self.trees.values() for node in ast.walk(tree))
        names = Counter(node.name for node in nodes if isinstance(node, ast.ClassDef))
        return {name for name, n in names.items() if n > 1}


@cache
def house() -> House:
    return House.of(ROOT, *MAP, "benchmarks")


def rows() -> Iterator[tuple[str, str]]:
    """Each pair of a folder and what it may import."""
    for package, folders in MAP.items():
        for folder, allowed in folders.items():
            yield from (
                (f"{package}/{folder}", f"{package}/{one}" if one in folders else one) for one in allowed.split()
            )


def test_no_folder_imports_what_its_row_does_not_name() -> None:
    allowed = set(rows())
    assert [imports for edge, imports in house().edges().items() if edge not in allowed] == []


def test_no_row_names_what_its_folder_does_not_import() -> None:
    assert set(rows()) - house().edges().keys() == set()


def test_every_folder_is_one_level_deep_and_has_a_row_and_every_row_a_folder() -> None:
    modules = [module for module in house().trees if module.partition(".")[0] in MAP]
    folders = {house().folder(module) for module in modules}
    assert max(module.count(".") for module in modules) == 2
    assert folders == {f"{package}/{folder}" for package, names in MAP.items() for folder in names}


def test_rows_name_folders_below_them() -> None:
    """So no folder imports upward, and folders form no circle."""
    places = [f"{package}/{folder}" for package, folders in MAP.items() for folder in folders]
    inside = [(folder, used) for folder, used in rows() if used in places]
    assert [(folder, used) for folder, used in inside if places.index(used) < places.index(folder)] == []
    assert {used for _, used in rows() if used not in places} == {"models"}


def test_modules_form_no_circle() -> None:
    assert house().circle() == []


def test_no_two_classes_have_the_same_name() -> None:
    assert house().homonyms() == set()


@pytest.fixture
def other_house(tmp_path: Path) -> House:
    """With a fault of each kind."""
    files = {
        "models/__init__.py": "",
        "models/images/__init__.py": "",
        "models/images/crop.py": "def f():\n    from models import turn\nclass Box: ...",
        "models/turn.py": "import models.images.crop, service.ipc.pipe, tests.wire\nclass Outer:\n  class Box: ...",
        "service/__init__.py": "",
        "service/__main__.py": "from service.ipc import pipe",
        "service/ipc/__init__.py": "from training.data import Data",
        "service/ipc/pipe.py": "import os",
        "training/data/__init__.py": "class Data: ...",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return House.of(tmp_path, "models", "service", "training")


def test_faults_are_found(other_house: House) -> None:
    assert other_house.edges() == {
        ("models/images", "models/root"): ["models.images.crop imports models.turn"],
        ("models/root", "models/images"): ["models.turn imports models.images.crop"],
        ("models/root", "service"): ["models.turn imports service.ipc.pipe"],
        ("models/root", "tests"): ["models.turn imports tests.wire"],
        ("service/cli", "service/ipc"): ["service.__main__ imports service.ipc.pipe"],
        ("service/ipc", "training"): ["service.ipc imports training.data"],
    }
    assert set(other_house.circle()) == {"models.turn", "models.images.crop"}
    assert other_house.homonyms() == {"Box"}


def test_the_table_of_the_design_says_what_the_folders_of_the_service_may_import() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| [\w ]+ \| [^|]+ \|([^|]*)\|$", (ROOT / "docs" / "design.md").read_text(), re.MULTILINE
    )
    told = {folder: set(re.findall(r"`(\w+)`", imports)) for folder, imports in rows}
    folders = MAP["service"].keys() - {"cli", "root"}
    assert told == {folder: set(MAP["service"][folder].split()) - {"root", "models"} for folder in folders}


def constants_by_section() -> Iterator[tuple[list[str], set[str]]]:
    """Of each section of `service/policy.py` the places that its head names, and its constants."""
    _, *sections = re.split(r"\n\n((?:# .*\n)+)", (ROOT / "service" / "policy.py").read_text())
    for head, body in zip(sections[::2], sections[1::2], strict=True):
        names = re.findall(r"^([A-Z_0-9, ]+) = ", body, re.MULTILINE)
        yield re.findall(r"`([\w/]+(?:\.py|/))`", head), set(", ".join(names).split(", "))


def test_tuned_constants_are_read_where_the_heads_of_their_sections_say() -> None:
    service = ROOT / "service"
    words = {
        str(path.relative_to(service)): set(re.findall(r"\w+", path.read_text()))
        for path in service.rglob("*.py")
        if path != service / "policy.py"
    }
    for places, constants in constants_by_section():
        reads = {place: set().union(*(words[file] for file in words if file.startswith(place))) for place in places}
        assert constants - set().union(*reads.values()) == set()
        assert [place for place in places if not constants & reads[place]] == []
