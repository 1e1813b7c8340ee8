"""Faults of our own behind FastAPI; what is counted of them is in `tests/service/http/test_connection.py`."""

import asyncio
from contextlib import suppress

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message, Receive, Scope, Send

from service.routes.faults import AnswerFaults

START: Message = {"type": "http.response.start", "status": 200, "headers": []}


def sent(fault: Exception, *before: Message) -> list[Message]:
    """What a client is sent by an application that sends this and then fails."""
    found: list[Message] = []

    async def application(_: Scope, __: Receive, send: Send) -> None:
        for message in before:
            await send(message)
        raise fault

    async def receive() -> Message:
        return {"type": "http.request"}

    async def send(message: Message) -> None:
        found.append(message)

    scope = {"type": "http", "method": "GET", "path": "/models", "headers": []}
    with suppress(type(fault)):
        asyncio.run(AnswerFaults(application)(scope, receive, send))
    return found


def test_a_fault_is_told() -> None:
    start, body = sent(LookupError())
    assert (start["status"], b'"internal_error"' in body["body"]) == (500, True)


@pytest.mark.parametrize(("fault", "before"), [(LookupError(), [START]), (ClientDisconnect(), [])])
def test_not_behind_the_beginning_of_an_answer_nor_to_a_client_that_left(
    fault: Exception, before: list[Message]
) -> None:
    assert sent(fault, *before) == before
