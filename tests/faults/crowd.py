"""Many clients that send what they have a byte a second, all from one thread."""

import selectors
import socket
import threading
import time
from contextlib import suppress

from tests.service.served import DEADLINE_S

BYTE_EVERY_S = 1.0


class Dawdler:
    """One connection: what it still has to send, and all that it has got."""

    def __init__(self, address: tuple[str, int], at_once: bytes, slowly: bytes) -> None:
        self.socket = socket.create_connection(address, timeout=DEADLINE_S)
        self.socket.sendall(at_once)
        self.socket.setblocking(False)
        self._left = memoryview(slowly)
        self.got = b""

    def send(self) -> None:
        """Send one more byte, if there is one."""
        with suppress(BrokenPipeError, ConnectionResetError):  # reading tells what came before
            self.socket.send(self._left[:1])
        self._left = self._left[1:]

    def read(self) -> bool:
        """Keep what came; whether more may come."""
        try:
            part = self.socket.recv(1 << 16)
        except ConnectionResetError:
            part = b""
        self.got += part
        return bool(part)


class Crowd:
    """Connections that send the first part of a request, and the rest slowly until the server ends them."""

    def __init__(self, address: tuple[str, int], count: int, at_once: bytes, slowly: bytes) -> None:
        self._dawdlers = [Dawdler(address, at_once, slowly) for _ in range(count)]
        self._left = count
        self._thread = threading.Thread(target=self._dawdle)
        self._thread.start()

    def join(self) -> list[bytes]:
        """All that each has got, once the server has ended every connection."""
        self._thread.join()
        for dawdler in self._dawdlers:
            dawdler.socket.close()
        assert not self._left, f"{self._left} connections were not ended"
        return [dawdler.got for dawdler in self._dawdlers]

    def _dawdle(self) -> None:
        due = time.monotonic()
        end = due + DEADLINE_S
        with selectors.DefaultSelector() as selector:
            for dawdler in self._dawdlers:
                selector.register(dawdler.socket, selectors.EVENT_READ, dawdler)
            while self._left and due < end:
                for key in list(selector.get_map().values()):
                    key.data.send()
                due += BYTE_EVERY_S
                self._read_until(due, selector)

    def _read_until(self, due: float, selector: selectors.BaseSelector) -> None:
        while self._left and (left_s := due - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                if not key.data.read():
                    selector.unregister(key.fileobj)
                    self._left -= 1
