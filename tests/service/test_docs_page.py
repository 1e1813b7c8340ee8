"""The page of the documentation in a real browser, behind a prefix and under its own security policy."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from tests.service.served import DEADLINE_S, Served, Servers

PREFIX = "/api/digits"
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")
def browser(require: Callable[[str], str]) -> Iterator[Browser]:
    program = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def prefixed(serve_module: Servers, repository: Path) -> Served:
    models = ("--model-repository", repository, "--default-model", "plain", "--workers", "1")
    return serve_module(*models, "--root-path", PREFIX).ready()


def test_it_shows_every_operation_and_tries_one(browser: Browser, prefixed: Served) -> None:
    """And asks nothing of any other origin, nor of the server outside the prefix."""
    document = httpx.get(prefixed.url + PREFIX + "/openapi.json", timeout=DEADLINE_S).json()
    operations = {
        (method.upper(), path): operation.get("tags", ["default"])
        for path, item in document["paths"].items()
        for method, operation in item.items()
    }
    page = browser.new_page()
    page.set_default_timeout(1000 * DEADLINE_S)
    expect.set_options(timeout=1000 * DEADLINE_S)
    asked: list[str] = []
    errors: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: errors.append(str(error)))
    answer = page.goto(prefixed.url + PREFIX + "/docs")
    assert answer
    assert "script-src 'self' 'nonce-" in answer.headers["content-security-policy"]

    expect(page.locator(".opblock")).to_have_count(sum(map(len, operations.values())))  # one below each tag
    shown = page.locator(".opblock-summary").all_inner_texts()
    found = {(method, path.replace("\u200b", "")) for method, path, *_ in (text.split() for text in shown)}
    assert found == operations.keys()

    block = page.locator(".opblock").filter(has=page.locator("[data-path='/models']"))
    block.locator(".opblock-summary-control").click()
    block.get_by_role("button", name="Try it out").click()
    block.get_by_role("button", name="Execute").click()
    live = block.locator(".live-responses-table")
    expect(live.locator("tbody td.response-col_status")).to_have_text("200")
    expect(live).to_contain_text('"plain"')

    assert errors == []
    origin = [urlsplit(url) for url in asked if not url.startswith("data:")]
    assert {f"{url.scheme}://{url.netloc}" for url in origin} == {prefixed.url}
    assert all(url.path.startswith(PREFIX + "/") for url in origin)
    assert f"{prefixed.url}{PREFIX}/models" in asked
    page.close()
