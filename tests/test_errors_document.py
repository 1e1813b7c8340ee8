"""docs/errors.md is as docs/errors.py writes it, and what commands say when they refuse leads on."""

import re
import runpy

from tests.documents import ROOT

ERRORS = runpy.run_path(str(ROOT / "docs" / "errors.py"))

REMEDY = re.compile(
    r"\b(give|choose|make|take|put|move|leave|start|call|name|lay|export|fetch|save|copy|pack|add|lower|raise|mend|write|"
    r"remove|rename|release|run|install|use|unset|begin|quantise|measure|import|split|replace|is for|must|needs?|"
    r"at most|expected|needed|allowed|say|prove|such as)\b"
)
"""Words of what is needed, or of what to do."""

REASONS = ("ValueError",)  # told within the sentence of another error


def test_table_is_that_of_the_code() -> None:
    assert (ROOT / "docs" / "errors.md").read_text() == ERRORS["document"]()


def test_no_file_with_an_error_text_is_left_out() -> None:
    """But for what only a mistake of the code itself could raise."""
    listed = {
        each.file for places in ERRORS["PROGRAMS"].values() for place in places for each in ERRORS["texts"](place)
    }
    all_files = {each.file for package in ("models", "service", "training") for each in ERRORS["texts"](package)}
    assert all_files - listed == {"service/ipc/slots.py"}


def test_texts_say_what_is_needed_or_what_to_do() -> None:
    """But for those that end with another error's text, or with a value that is one."""
    texts = [each for each in ERRORS["texts"]("training") if each.error not in REASONS and not each.text.endswith("…")]
    assert len(texts) > 50
    assert [f"{each.file}: {each.text}" for each in texts if not REMEDY.search(each.text)] == []
