"""Fields of a part: the standard library's email package writes the extended ones."""

from email.message import Message

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.parsing.mime_fields import MimeFields

DISPOSITION = "content-disposition"
NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C"]), min_size=1, max_size=200)


def parameters(value: str) -> dict[str, str]:
    """Of a Content-Disposition that says this."""
    return MimeFields(f"Content-Disposition: {value}\r\n\r\n".encode()).parameters(DISPOSITION)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("form-data", {}),
        ('form-data; name="a"; filename="b.png"', {"name": "a", "filename": "b.png"}),
        ("form-data;name=a;filename=b c.png", {"name": "a", "filename": "b c.png"}),
        ('form-data; NAME = "a" ; FileName="b"', {"name": "a", "filename": "b"}),
        ('form-data; filename="a;b=\\"c\\".png"; name=x', {"filename": 'a;b="c".png', "name": "x"}),
        ('form-data; filename="C:\\dir\\a.png"', {"filename": "C:\\dir\\a.png"}),
        ('form-data; filename=""; name=""', {"filename": "", "name": ""}),
        ('form-data; filename="grün 図.png"', {"filename": "grün 図.png"}),
        ("form-data; filename*=UTF-8''gr%C3%BCn%20a.png", {"filename": "grün a.png"}),
        ("form-data; filename*=iso-8859-1'de'gr%FCn.png", {"filename": "grün.png"}),
        ("form-data; filename*=what''a%FFb", {"filename": "a\ufffdb"}),
        ("form-data; filename=\"plain\"; filename*=UTF-8''extended", {"filename": "plain"}),
        ('form-data; filename*0="long"; filename*1=" name.png"', {"filename": "long name.png"}),
        ('form-data; name="a', {"name": '"a'}),
        ("form-data; name=first; name=second", {"name": "first"}),
        ('form-data;\r\n  name="a";\r\n\tfilename="b"', {"name": "a", "filename": "b"}),
    ],
)
def test_parameters(value: str, expected: dict[str, str]) -> None:
    assert parameters(value) == expected


@given(NAMES)
def test_names_that_email_extends_come_back(name: str) -> None:
    message = Message()
    message.add_header("Content-Disposition", "form-data", name="x", filename=("utf-8", "", name))
    assert MimeFields(message.as_bytes()).parameters(DISPOSITION) == {"name": "x", "filename": name}


@pytest.mark.parametrize("newline", [b"\r\n", b"\n"])
def test_fields_whatever_ends_their_lines(newline: bytes) -> None:
    lines = [b"Content-Type: IMAGE/png ; a=b", b"no field", b"Content-Type: text/plain", b"Empty:", b"Last:x"]
    fields = MimeFields(newline.join([*lines, b"", b""]))
    assert [fields.value(name) for name in ("content-type", "empty", "last", "none")] == ["image/png", "", "x", ""]


@pytest.mark.parametrize("text", [b";a=", b';a="', b";a*1=b", b"; ", b";a ", b"\\", b"a:", b" ", b":", b"\n", b"\r\n "])
def test_time_is_bounded_by_what_can_count(text: bytes) -> None:
    """Each is so long that the square of its length would take minutes."""
    fields = MimeFields(b'Content-Disposition: x;a="' + text * (1 << 18))
    assert len(fields.parameters(DISPOSITION)) <= 32
