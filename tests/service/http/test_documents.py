"""The documents of the server, and that they need nothing from elsewhere."""

import re
from urllib.parse import urljoin

import httpx


def test_docs_shows_the_openapi_document_from_files_of_its_own(client: httpx.Client) -> None:
    page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "://" not in page.text  # nothing from elsewhere
    linked = re.findall(r"(?:src|href|url)[=:] ?[\"']([^\"',]+)", page.text)
    assert [urljoin("/docs", link) for link in linked if not link.startswith("data")] == [
        "/docs/swagger-ui.css",
        "/docs/swagger-ui-bundle.js",
        "/openapi.json",
    ]
    for path, kind, known in (
        ("/docs/swagger-ui.css", "text/css", ".swagger-ui"),
        ("/docs/swagger-ui-bundle.js", "text/javascript", "SwaggerUIBundle"),
        ("/openapi.json", "application/json", "/predict"),
    ):
        answer = client.get(path)
        assert answer.headers["content-type"].startswith(kind)
        assert known in answer.text


def test_the_page_runs_its_own_script_and_no_other(client: httpx.Client) -> None:
    pages = [client.get("/docs") for _ in range(2)]
    nonces = []
    for page in pages:
        policy = page.headers["content-security-policy"]
        (nonce,) = re.findall("'nonce-([^']+)'", policy)
        nonces.append(nonce)
        assert re.findall(r"<script(?![^>]* src=)([^>]*)>", page.text) == [f' nonce="{nonce}"']
        assert "frame-ancestors 'none'" in policy
    assert nonces[0] != nonces[1]


def test_no_other_file_is_given(client: httpx.Client) -> None:
    for path in ("/docs/redoc.standalone.js", "/docs/..%2f__init__.py", "/docs/%2e%2e/core.py", "/redoc"):
        assert client.get(path).status_code == 404
