"""docs/operations.md does what it says: its commands run in order, and its tables have all that there is."""

import hashlib
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from service.config.settings import Settings
from tests.artifacts import make_artifact
from tests.documents import ROOT, URL, blocks, imitate_checkout, run
from tests.service.served import Served

DOCUMENT = (ROOT / "docs" / "operations.md").read_text()
# Blocks that begin so are run by another test, since they need a container engine or a cluster.
ELSEWHERE = {"docker tag ": "containers/test_compose.py", "python deploy/ray/classify.py": "deploy/test_ray.py"}
OUR_KEY = "a-key-that-is-long-and-random"


def table(name: str) -> list[list[str]]:
    """The cells of the table between two comments, without its head."""
    (text,) = re.findall(rf"<!-- {name} -->\n(.*?)<!-- end of {name} -->", DOCUMENT, re.DOTALL)
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in text.splitlines()[2:]]


def commands() -> list[str]:
    """The blocks of the document, and what stands in the last column for those who come from others."""
    ours = [re.findall(r"`((?:curl|resnet-serve) [^`]+)`", row[-1]) for row in table("migration")]
    scripts = [block.script for block in blocks(DOCUMENT)] + [script for found in ours for script in found]
    return [script for script in scripts if not script.startswith(tuple(ELSEWHERE))]


class Checkout:
    """The checkout as an operator sees it, with models of one's own, and the servers that the commands ask."""

    def __init__(self, folder: Path) -> None:
        self.folder = imitate_checkout(folder, "docs")
        for version in (1, 2, 3):
            make_artifact(folder / "models", "digits", version)
        make_artifact(folder / "models", "first")
        self._servers = ExitStack()
        self._urls: dict[str, str] = {}

    def run(self, script: str) -> str:
        """Run a block; one that gives a key asks a server that knows it, the others one with the models that ship."""
        if URL in script:
            script = script.replace(URL, self._keyed() if "$KEY" in script else self._plain())
        script = script.replace("--duration 30s", "--duration 1s").replace("curl ", "curl --fail-with-body ")
        return run(f"export PATH={sys.prefix}/bin:$PATH KEY={OUR_KEY}\n{script}", self.folder)

    def _plain(self) -> str:
        return self._url("--workers", "1")

    def _keyed(self) -> str:
        digest = hashlib.sha256(OUR_KEY.encode()).hexdigest()
        with (self.folder / "keys").open("a") as keys:
            keys.write(f"operator admin {digest}\n")
        return self._url(
            *("--workers", "1", "--admin-api", "--api-key-file", self.folder / "keys"),
            *("--model-repository", self.folder / "models", "--default-model", "first"),
        )

    def _url(self, *flags: str | Path) -> str:
        name = " ".join(map(str, flags))
        if name not in self._urls:
            self._urls[name] = self._servers.enter_context(Served(*flags)).ready().url
        return self._urls[name]

    def close(self) -> None:
        """End its servers."""
        self._servers.close()


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    made = Checkout(tmp_path)
    yield made
    made.close()


def test_every_command_runs(checkout: Checkout, require: Callable[[str], str]) -> None:
    """In their order, for some need what others have left."""
    for program in ("curl", "openssl", "wrk"):
        require(program)
    assert len(commands()) > 10
    for script in commands():
        if not script.startswith("resnet-serve --"):  # it would not end; the servers that are asked have its flags
            checkout.run(script)


def test_commands_tested_elsewhere_are_there() -> None:
    for command, file in ELSEWHERE.items():
        assert command.rpartition("/")[2] in (ROOT / "tests" / file).read_text()


def test_the_contents_lead_to_sections() -> None:
    sections = re.findall(r"^## (.+)$", DOCUMENT, re.MULTILINE)
    contents = DOCUMENT[: DOCUMENT.index(f"## {sections[0]}")]
    anchors = [re.sub(r"[^a-z -]", "", section.lower()).replace(" ", "-") for section in sections]
    links = re.findall(r"\]\(#([\w-]+)\)", contents)
    assert len(links) > 10
    assert [link for link in links if link not in anchors] == []


def test_ten_settings_matter_and_each_is_one() -> None:
    rows = table("ten settings")
    flags = re.findall(r"`--([a-z-]+)`", " ".join(row[0] for row in rows))
    assert len(rows) == 10
    assert {flag.replace("-", "_") for flag in flags} <= Settings.model_fields.keys()


def test_every_metric_has_its_row(checkout: Checkout) -> None:
    """As a server exposes them that knows keys; what its libraries tell of themselves does not count."""
    exposed = set(re.findall(r"^# HELP (\w+)", checkout.run(f"curl --silent {URL}/metrics # $KEY"), re.MULTILINE))
    assert set(re.findall(r"`((?:resnet|process)_\w+)`", " ".join(row[0] for row in table("metrics")))) == exposed
