"""OPTIONS: the methods that a route names are those that it takes."""

import httpx
import pytest

from tests.service.pictures import png

METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH")


@pytest.mark.parametrize(
    "path",
    [
        "/predict",
        "/models/plain/predict",
        "/models/plain/versions/2/predict",
        "/predictions/plain",
        "/models",
        "/models/plain",
        "/livez",
        "/readyz",
        "/metrics",
        "/docs",
        "/openapi.json",
    ],
)
def test_a_route_names_the_methods_that_it_takes(client: httpx.Client, path: str) -> None:
    answer = client.options(path)
    assert (answer.status_code, answer.content) == (200, b"")
    taken = {method for method in METHODS if client.request(method, path, content=png()).status_code != 405}
    assert set(answer.headers["allow"].split(", ")) == taken | {"OPTIONS"}


def test_the_whole_server_names_every_method(client: httpx.Client) -> None:
    answer = client.send(httpx.Request("OPTIONS", client.base_url, extensions={"target": b"*"}))
    assert (answer.status_code, answer.content) == (200, b"")
    assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "POST", "PUT", "OPTIONS"}


@pytest.mark.parametrize("path", ["/", "/nowhere", "/predict/"])
def test_what_is_no_route_is_not_found(client: httpx.Client, path: str) -> None:
    assert client.options(path).status_code == 404
