"""What the image installs is locked: `make lock` writes it, and pip takes nothing without a hash."""

import re
import tomllib
from collections.abc import Iterator

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.documents import ROOT

LOCKED = ROOT / "deploy" / "requirements"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
RUNTIMES = ("cpu", "gpu", "gpu-cuda12")
FILES = ("build", *RUNTIMES, "extras")
NOT_IN_IMAGES = {"torch", "train", "dev", "bench", "ray"}


def pins(name: str) -> Iterator[tuple[Requirement, list[str]]]:
    """Every line of a lock file, with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (LOCKED / f"{name}.txt").read_text(), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        yield Requirement(requirement), hashes


def versions(name: str) -> dict[str, Version]:
    """The version of each distribution, by its canonical name."""
    found = {}
    for requirement, _ in pins(name):
        (pin,) = requirement.specifier
        assert pin.operator == "=="
        found[canonicalize_name(requirement.name)] = Version(pin.version)
    return found


def unmet(declared: list[str], locked: dict[str, Version]) -> list[str]:
    """Requirements that the lock leaves out, or has at another version."""
    requirements = [Requirement(text) for text in declared]
    return [
        str(requirement)
        for requirement in requirements
        if (version := locked.get(canonicalize_name(requirement.name))) is None or version not in requirement.specifier
    ]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_the_lock_is_what_the_project_requires(runtime: str) -> None:
    """After a change of pyproject.toml `make lock` has to be given."""
    project = PYPROJECT["project"]
    declared = [*project["dependencies"], *project["optional-dependencies"][runtime]]
    assert unmet(declared, versions(runtime)) == []
    assert unmet(["litserve>=1000", "torch"], versions(runtime)) == ["litserve>=1000", "torch"]


def test_the_extras_of_an_image_are_all_that_a_server_may_need() -> None:
    """And they go together with either runtime: no distribution is locked at two versions."""
    optional = PYPROJECT["project"]["optional-dependencies"]
    extras = optional.keys() - NOT_IN_IMAGES - set(RUNTIMES)
    declared = [text for extra in extras for text in optional[extra]]
    assert unmet(declared, versions("extras")) == []
    for runtime in RUNTIMES:
        locked = versions(runtime)
        assert [name for name, version in versions("extras").items() if locked.get(name, version) != version] == []


def test_what_builds_the_wheel_is_locked_too() -> None:
    assert unmet(PYPROJECT["build-system"]["requires"], versions("build")) == []


@pytest.mark.parametrize("name", FILES)
def test_everything_has_hashes(name: str) -> None:
    hashes = [hashes for _, hashes in pins(name)]
    assert hashes
    assert all(each and all(re.fullmatch(r"sha256:[0-9a-f]{64}", digest) for digest in each) for each in hashes)


@pytest.mark.parametrize("name", FILES)
def test_nothing_of_the_machine_that_wrote_it_is_in_it(name: str) -> None:
    """An index or a folder of its own would be asked by every image that is built."""
    assert not re.search(r"index-url|find-links|://|file:", (LOCKED / f"{name}.txt").read_text())


def test_the_image_takes_nothing_else() -> None:
    """Each `pip install` needs hashes, but that of our own wheel, which brings nothing and builds by what is there."""
    commands = re.findall(r"pip (?:--python \S+ )?(install|wheel)([^&\n]*)", DOCKERFILE.replace("\\\n", ""))
    assert len(commands) == 4
    for verb, options in commands:
        assert "--require-hashes" in options or "--no-deps" in options
        assert verb == "install" or "--no-build-isolation" in options


def test_the_images_labels_are_those_of_the_project() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.(\w+)="([^"]*)"', DOCKERFILE))
    project = PYPROJECT["project"]
    assert (labels["title"], labels["version"], labels["licenses"]) == (
        project["name"],
        project["version"],
        project["license"],
    )
