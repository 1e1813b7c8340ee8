"""Where a connection is, and which state may follow which."""

from enum import IntEnum

AWAITS_BODY = "awaits_body"
"""Key of an ASGI scope: whether FastAPI waits for more of the request's body."""

BODY_ENDED = "body_ended"
"""Key of an ASGI scope: it is there once no more is to come of the request's body."""

ANSWERED = "answered"
"""Key of an ASGI scope: it is there if the connection has answered in FastAPI's place."""


class ConnectionState(IntEnum):
    """Where a connection is, as far as its newest message goes; what FastAPI answers is left out."""

    IDLE = 0  # between messages
    HEAD = 1  # a message has begun, its headers are incomplete
    BODY = 2  # its headers are complete, its body is not
    ANSWERING = 3  # a prediction request has come whole, its response is due
    LAST = 4  # a response is due and is the last; later bytes are not read
    CLOSING = 5  # the last response has been given; later bytes are ignored


IDLE, HEAD, BODY, ANSWERING, LAST, CLOSING = ConnectionState

NEXT: dict[ConnectionState, frozenset[ConnectionState]] = {
    IDLE: frozenset({HEAD, BODY, ANSWERING, LAST, CLOSING}),  # to BODY or ANSWERING at once with a plain head
    HEAD: frozenset({BODY, IDLE, LAST, CLOSING}),  # to IDLE if it offers another protocol and is parsed again
    BODY: frozenset({IDLE, ANSWERING, LAST, CLOSING}),
    ANSWERING: frozenset({IDLE, LAST, CLOSING}),
    LAST: frozenset({LAST, CLOSING}),
    CLOSING: frozenset({CLOSING}),
}
