"""The header fields of one part of a form, and their parameters."""

import re
from itertools import islice
from urllib.parse import unquote

_MOST_PARAMETERS = 32  # of one field; later ones are passed over

# Both need time that grows with the length alone; the standard library's parser of parameters needs its square.
_FIELD = re.compile(r"^([^\s:]+)[ \t]*:[ \t]*([^\r\n]*(?:\r?\n[ \t][^\r\n]*)*)", re.MULTILINE)
_PARAMETER = re.compile(r';\s*([^\s=;]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^;]*))', re.DOTALL)
_ESCAPE = re.compile(r'\\(["\\])')  # other backslashes stand for themselves: old browsers send whole paths
_EXTENDED = re.compile(r"([\w.-]*)'[\w-]*'(.*)", re.DOTALL)


class MimeFields:
    """Fields by their names, of which the first of each counts."""

    def __init__(self, text: bytes) -> None:
        """`text`: lines that end in CRLF or LF, in UTF-8; what is no field is passed over."""
        fields = _FIELD.findall(text.decode("utf-8", "replace"))
        self._values: dict[str, str] = {name.lower(): value for name, value in reversed(fields)}

    def value(self, field: str) -> str:
        """What a field says before its parameters, in lower case; empty if there is no such field."""
        return self._values.get(field, "").partition(";")[0].strip().lower()

    def parameters(self, field: str) -> dict[str, str]:
        """A field's parameters by their names; also those that are extended or in parts (RFC 2231, RFC 5987)."""
        plain: dict[str, str] = {}
        extended: dict[str, str] = {}
        for found in islice(_PARAMETER.finditer(self._values.get(field, "")), _MOST_PARAMETERS):
            name, mark, _ = found[1].lower().partition("*")
            value = _ESCAPE.sub(r"\1", found[2] or "") or (found[3] or "").strip()
            if mark:
                extended[name] = extended.get(name, "") + value
            else:
                plain.setdefault(name, value)
        return {name: _decode(value) for name, value in extended.items()} | plain


def _decode(value: str) -> str:
    """The text of an extended value, such as UTF-8''na%C3%AFve.png."""
    extended = _EXTENDED.fullmatch(value)
    if extended is None:
        return value
    encoding = "latin-1" if extended[1].lower() == "iso-8859-1" else "utf-8"
    return unquote(extended[2], encoding, "replace")
