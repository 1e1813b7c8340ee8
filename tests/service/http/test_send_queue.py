"""What the kernel tells of a connection whose client does not read, and then does."""

import socket
from contextlib import suppress

from service.http.send_queue import SendQueue
from tests.service.served import DEADLINE_S, until


def test_what_is_sent_is_left_until_the_client_takes_it() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), DEADLINE_S) as client,
    ):
        server, _ = listener.accept()
        with server:
            fd = server.fileno()
            assert SendQueue.of(fd).left == 0
            server.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while True:
                    sent += server.send(bytes(1 << 16))
            before = SendQueue.of(fd)
            assert 0 < before.left < sent
            until(lambda: len(client.recv(1 << 16)) and SendQueue.of(fd).left == 0, "the client to take all")
            assert SendQueue.of(fd).taken - before.taken == before.left
            assert server.send(b"more") == 4  # the connection is as it was
