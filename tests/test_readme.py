"""The README and docs/requests.md do what they say: shell blocks run, answers are the real ones, paths exist."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.documents import ROOT, URL, Block, blocks, imitate_checkout, run
from tests.service.served import Served

PAGES = ("README.md", "docs/requests.md")
DOCUMENTS = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]

MADE_BY_OPERATORS = {"deploy/.env", "deploy/secrets/keys", "deploy/keys"}  # the last before this release
VOLATILE = ("request_id", "timings_ms")  # differ with each request
TOLERANCE = 2e-3  # of probabilities, printed with four digits
# Commands that another test runs, since they install or build.
ELSEWHERE = {
    "make serve": "test_makefile.py",
    "make image": "containers/test_image.py",
    "docker run": "containers/test_image.py",
}


def _blocks() -> list[Block]:
    found = [block for page in PAGES for block in blocks((ROOT / page).read_text())]
    return [block for block in found if not block.script.startswith(tuple(ELSEWHERE))]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The zoo, served on a free port; its URL."""
    with Served() as served:
        yield served.ready().url


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkout as the commands see it, in which what they write does no harm."""
    return imitate_checkout(tmp_path_factory.mktemp("checkout"), "docs", "README.md")


@pytest.mark.parametrize("block", _blocks(), ids=lambda block: block.script.partition("\n")[0])
def test_shell_block_runs(block: Block, server: str, checkout: Path, require: Callable[[str], str]) -> None:
    """It ends well, and prints what stands below it."""
    if "curl" in block.script:
        require("curl")
    refusal = '"status": 4' in (block.answer or "")
    script = block.script if refusal else block.script.replace("curl ", "curl --fail-with-body ")
    output = run(script.replace(URL, server), checkout)
    if block.kind == "json":
        _compare(json.loads(output), json.loads(block.answer or ""))
    elif block.kind == "text":
        _compare(_words(output), _words(block.answer or ""))


def test_commands_tested_elsewhere_are_there() -> None:
    """What does not run here runs in the test that is named, and the rest was found."""
    assert len(_blocks()) >= 5
    for command, file in ELSEWHERE.items():
        assert command.split()[1] in (ROOT / "tests" / file).read_text()


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_in_documents_exist(document: Path) -> None:
    """Links lead to files, and files that are named are there."""
    text = document.read_text()
    links = [document.parent / link for link in re.findall(r"\]\((?!https?:|#)([^)#]+)", text)]
    folders = "models|service|training|tests|benchmarks|docs|deploy"
    named = {*re.findall(rf"`((?:{folders})/[\w./-]+)`", text)} - MADE_BY_OPERATORS
    assert [str(path) for path in [*links, *(ROOT / name for name in named)] if not path.exists()] == []


def _words(text: str) -> list[Any]:
    """Words and numbers, without the lines of tables."""
    words = re.findall(r"[^\s│┃]+", re.sub(r"[━─┏┳┓┡╇┩└┴┘╈]+", " ", text))
    return [float(word) if re.fullmatch(r"\d+\.\d+", word) else word for word in words]


def _compare(actual: Any, expected: Any) -> None:
    """Equal, but for rounding and for what differs with each request."""
    assert type(actual) is type(expected)
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected.keys() - set(VOLATILE):
            _compare(actual[key], expected[key])
    elif isinstance(expected, list):
        assert len(actual) == len(expected)
        for each, other in zip(actual, expected, strict=True):
            _compare(each, other)
    elif isinstance(expected, float):
        assert actual == pytest.approx(expected, abs=TOLERANCE)
    else:
        assert actual == expected
