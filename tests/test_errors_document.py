"""docs/errors.md is as docs/errors.py writes it, and what commands say when they refuse leads on."""

import re
import runpy

from tests.documents import ROOT

ERRORS = runpy.run_path(str(ROOT / "docs" / "errors.py"))

REMEDY = re.compile(
    r"\b(give|choose|make|take|put|move|leave|start|call|name|lay|export|fetch|save|copy|pack|add|lower|raise|mend|write|"
    r"remove|rename|release|run|install|use|unset|begin|quantise|measure|import|split|replace|is for|must|needs?|"
    r"at most|expected)\b"
)
"""Words of what is needed, or of what to do."""

SPOKEN_TO_DEVELOPERS = ("ValueError",)  # told as the reason in a sentence of another error


def test_table_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == ERRORS["document"]()


def test_texts_say_what_is_needed_or_what_to_do() -> None:
    texts = [each for place in ("training",) for each in ERRORS["texts"](place)]
    assert len(texts) > 60
    silent = [each for each in texts if each.error not in SPOKEN_TO_DEVELOPERS and not REMEDY.search(each.text)]
    assert [f"{each.file}: {each.text}" for each in silent] == []
