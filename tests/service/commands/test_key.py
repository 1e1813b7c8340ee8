"""`resnet-serve key` prints a key that its own line knows."""

import hashlib
from pathlib import Path

from tests.service.commands.shell import resnet_serve


def test_a_key_and_the_line_that_is_kept_of_it(tmp_path: Path) -> None:
    code, line, shown = resnet_serve("key", "alice", "--scopes", "predict,admin", cwd=tmp_path)
    key = shown.strip().rpartition(" ")[2]
    assert code == 0
    assert line == f"alice predict,admin {hashlib.sha256(key.encode()).hexdigest()}\n"
    assert key not in line


def test_what_is_no_name_or_scope_is_refused(tmp_path: Path) -> None:
    for arguments in (("a b",), ("alice", "--scopes", "root")):
        code, line, told = resnet_serve("key", *arguments, cwd=tmp_path)
        assert (code, line) == (2, "")
        assert "the key" not in told.replace("the key's name", "")
        assert told.count("\n") == 1  # one fault, one line
