"""What an answer tells a browser, by the page's origin."""

import pytest

from service.auth.cors import Cors


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        (b"https://example.org", True),
        (b"https://example.org:8443", False),
        (b"http://example.org", False),
        (b"https://evil.example.org", False),
        (b"https://example.org.evil", False),
        (b"null", False),
        (None, False),
    ],
)
def test_a_named_origin_is_allowed_and_none_like_it(origin: bytes | None, allowed: bool) -> None:
    headers = Cors(["https://example.org"]).headers({b"origin": origin} if origin else {})
    assert headers.get("access-control-allow-origin") == ("https://example.org" if allowed else None)
    assert headers["vary"] == "Origin"  # or a cache would give one page the answer to another
