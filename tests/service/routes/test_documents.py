"""The documents of the server, and that they need nothing from elsewhere."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin

import httpx
import pytest

from tests.faults.balancer import AROUND
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Served, Servers, free_port, is_listening, until


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


@pytest.fixture(scope="module")
def prefixed(serve_module: Servers, repository: Path) -> Served:
    """A server that a proxy publishes under a prefix."""
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    return serve_module(*models, "--root-path", "/api/digits").ready()


@pytest.mark.parametrize("end", ["/", ""], ids=["the prefix is taken away", "the prefix is left"])
def test_behind_nginx_with_a_prefix_everything_is_where_the_page_looks(
    prefixed: Served, require: Callable[[str], str], tmp_path: Path, end: str
) -> None:
    port = free_port()
    location = f"location /api/digits/ {{ proxy_pass {prefixed.url}{end}; }}"
    config = AROUND["nginx"].format(folder=tmp_path, config=f"server {{ listen 127.0.0.1:{port}; {location} }}\n")
    (tmp_path / "nginx.conf").write_text(config)
    process = subprocess.Popen([require("nginx"), "-c", tmp_path / "nginx.conf"])
    try:
        until(lambda: is_listening(("127.0.0.1", port)), "nginx to listen")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=DEADLINE_S) as client:
            page = client.get("/api/digits/docs")
            links = re.findall(r"(?:src|href|url)[=:] ?[\"']([^\"',]+)", page.text)
            found = [client.get(urljoin("/api/digits/docs", link)) for link in links if not link.startswith("data")]
            assert [answer.status_code for answer in found] == [200, 200, 200]
            document = found[-1].json()
            (server,) = document["servers"]
            assert server["url"] == "/api/digits"
            assert client.post(server["url"] + "/predict", content=png()).status_code == 200
            assert client.options(server["url"] + "/predict").headers["allow"] == "POST, PUT, OPTIONS"
            for path in ("/models", "/readyz", "/metrics"):
                assert client.get(server["url"] + path).status_code == 200
    finally:
        process.terminate()
        process.wait(DEADLINE_S)


def test_documents_can_be_switched_off(serve: Servers, repository: Path) -> None:
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    served = serve(*models, "--no-docs").ready()
    assert [served.status(path) for path in ("/docs", "/docs/swagger-ui.css", "/openapi.json", "/models")] == [
        *(404, 404, 404),
        200,
    ]
    assert httpx.get(served.url, timeout=DEADLINE_S).json()["detail"] == "no such route: /"  # without a word of /docs
