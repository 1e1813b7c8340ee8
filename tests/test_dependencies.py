"""What pyproject.toml declares is what the code needs: on a developer's machine more may be installed."""

import ast
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OURS = ("models", "service", "training", "tests", "benchmarks")
PYTHONS = sys.stdlib_module_names | {"compression"}  # which 3.14 brings
TORCH_ENGINE = (
    ROOT / "models" / "engines" / "torch_engine.py",
    ROOT / "models" / "engines" / "padding.py",
    *(ROOT / "models" / "networks").glob("*.py"),
)


def test_serving_requires_no_torch() -> None:
    """Nothing that resnet-serve[cpu] requires, however far down, is what training needs."""
    required = _closure("cpu")
    assert {"onnxruntime", "litserve", "fastapi"} <= required
    assert not {"torch", "torchvision", "onnx", "matplotlib"} & required


@pytest.mark.parametrize("package", OURS)
def test_imports_are_declared(package: str) -> None:
    """Every distribution that the code imports is required, by us or by what we require."""
    assert _undeclared((ROOT / package).rglob("*.py"), _closure("cpu", "train", "dev", "bench")) == set()


def test_the_torch_extra_is_what_its_engine_needs_and_a_part_of_train() -> None:
    """Serving with PyTorch needs no more than that, and training does not bring another PyTorch."""
    required = _closure("cpu", "torch")
    assert _undeclared(TORCH_ENGINE, required) == set()
    assert not {"torchvision", "onnx", "matplotlib"} & required
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    trained = {each.name: each.specifier for each in map(Requirement, extras["train"])}
    for required_one in map(Requirement, extras["torch"]):
        pins = [each.version for each in trained[required_one.name] if each.operator == "=="]
        assert all(pin in required_one.specifier for pin in pins), required_one
        assert pins or trained[required_one.name] == required_one.specifier


def _undeclared(paths: Iterable[Path], declared: set[str]) -> set[str]:
    """Modules of others that these files import, and that no declared distribution provides."""
    providers = packages_distributions()
    return {
        f"{path.relative_to(ROOT)}: {module}"
        for path in paths
        for module in _imports(path)
        if not {canonicalize_name(name) for name in providers.get(module, [module])} & declared
    }


def _imports(path: Path) -> Iterator[str]:
    """Top-level modules of others that a file imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [node.module or ""]
        for module in {name.partition(".")[0] for name in names}:
            if module not in PYTHONS and module not in OURS:
                yield module


def _closure(*extras: str) -> set[str]:
    """Every distribution that installing resnet-serve[extras] brings: ours as declared, theirs as installed."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    own = project["dependencies"] + [text for extra in extras for text in project["optional-dependencies"][extra]]
    found: set[str] = set()
    to_do = [Requirement(text) for text in own]
    while to_do:
        requirement = to_do.pop()
        name = canonicalize_name(requirement.name)
        if name not in found or requirement.extras:
            found.add(name)
            to_do += _requirements(name, frozenset(requirement.extras))
    return found


def _requirements(name: str, extras: frozenset[str]) -> Iterator[Requirement]:
    """What a distribution requires with these extras; nothing is known of one that is not installed."""
    try:
        texts = distribution(name).requires or []
    except PackageNotFoundError:
        return
    for requirement in map(Requirement, texts):
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras | {""}):
            yield requirement
