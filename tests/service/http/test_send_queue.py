"""What the kernel tells of a connection whose client does not read, and then does."""

import socket
from contextlib import suppress

from service.http.send_queue import SendQueue
from tests.service.served import DEADLINE_S, until


def test_what_is_sent_is_in_the_queue_until_the_client_takes_it() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname(), DEADLINE_S) as client,
    ):
        server, _ = listener.accept()
        with server:
            server.sendall(b"first")
            until(lambda: SendQueue.of(server).is_empty, "its arrival")
            before = SendQueue.of(server)
            server.setblocking(False)
            sent = 0
            with suppress(BlockingIOError):
                while True:
                    sent += server.send(bytes(1 << 16))
            full = SendQueue.of(server)
            assert 0 < full.unsent < sent
            assert before.taken < full.taken < before.taken + sent
            until(lambda: len(client.recv(1 << 16)) and SendQueue.of(server).is_empty, "the client to take all")
            assert SendQueue.of(server).taken == before.taken + sent
            assert server.send(b"more") == 4  # the connection is as it was
