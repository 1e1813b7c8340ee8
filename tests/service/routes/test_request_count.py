"""What each request that FastAPI answers carries, and its line in the access log."""

import asyncio
import json

import pytest

from models.artifact.artifact import Artifact
from tests.service.http.played_connection import SHORT_S, Scene, Server, serve
from tests.service.wire import get

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize("path", ["/models", "/livez", "/v2", "/openapi.json", "/none"])
def test_every_answer_has_the_requests_id_and_its_trace(artifact: Artifact, path: str) -> None:
    async def scene(server: Server) -> None:
        connection = server.connect().send(get(path, "X-Request-ID: mine", f"traceparent: {TRACE}"))
        (answer,) = (await connection.rest()).answers()
        assert (answer.headers["x-request-id"], answer.headers["traceparent"]) == ("mine", TRACE)
        connection.leave()

    serve(scene, artifact)


def test_an_id_that_is_made_is_in_the_answer_and_in_the_line(
    artifact: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    found = []

    async def scene(server: Server) -> None:
        connection = await server.connect().send(get("/models")).rest()
        found.extend(answer.headers["x-request-id"] for answer in connection.answers())
        connection.leave()

    assert _lines(scene, artifact, capfd)[0]["request_id"] == found[0]


def test_a_client_that_leaves_within_a_body_has_a_line(artifact: Artifact, capfd: pytest.CaptureFixture[str]) -> None:
    async def scene(server: Server) -> None:
        fields = ("Content-Length: 2", "X-Request-ID: mine")
        connection = server.connect().send(get("/v2/repository/index", *fields, method="POST"))
        answering = tuple(connection.protocol.tasks)
        await asyncio.sleep(0)  # the application asks for the body
        connection.leave()
        await asyncio.gather(*answering)

    (line,) = _lines(scene, artifact, capfd)
    told = ("request_id", "method", "route", "outcome", "status")
    assert [line.get(field) for field in told] == ["mine", "POST", "/v2/repository/index", "cancelled", None]


def test_a_client_that_stalls_within_a_body_has_one_line_the_answers(
    artifact: Artifact, capfd: pytest.CaptureFixture[str]
) -> None:
    async def scene(server: Server) -> None:
        fields = ("Content-Length: 2", "X-Request-ID: mine")
        connection = server.connect().send(get("/v2/repository/index", *fields, method="POST"))
        answering = tuple(connection.protocol.tasks)
        await asyncio.gather(*answering)
        assert connection.statuses() == [408]
        assert connection.answers()[0].headers["x-request-id"] == "mine"
        connection.leave()

    (line,) = _lines(scene, artifact, capfd, body_timeout=SHORT_S)
    assert (line["status"], line["request_id"]) == (408, "mine")


def _lines(
    scene: Scene, artifact: Artifact, capfd: pytest.CaptureFixture[str], **settings: object
) -> list[dict[str, object]]:
    """The access lines of a scene."""

    async def logged(server: Server) -> None:
        await scene(server)
        assert server.process.services.access_log is not None
        server.process.services.access_log.flush()

    serve(logged, artifact, access_log="all", log_format="json", **settings)
    return [json.loads(line) for line in capfd.readouterr().err.splitlines() if '"event":"request"' in line]
