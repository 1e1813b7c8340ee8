"""docs/settings.md is as docs/settings.py writes it, and has every flag that the server knows."""

import re
import runpy
import sys

from tests.documents import ROOT, run

DOCUMENT = (ROOT / "docs" / "settings.md").read_text()


def test_table_is_that_of_the_code() -> None:
    assert runpy.run_path(str(ROOT / "docs" / "settings.py"))["document"]() == DOCUMENT


def test_every_flag_of_the_help_has_its_row() -> None:
    flags = set(re.findall(r"^  (--[a-z-]+)", run(f"{sys.executable} -m service --help", ROOT), re.MULTILINE))
    assert set(re.findall(r"^\| `(--[a-z-]+)`", DOCUMENT, re.MULTILINE)) == flags
