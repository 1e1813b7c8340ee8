"""The ports of the server: one for everything, or others for what is to be kept inside."""

import socket

from service.config.settings import SettingError, Settings
from service.http.acceptor import listen

PROBES, ADMIN, MAIN = "probes", "admin", "main"
"""Areas of which each port answers some: routes with the tag of the first or the second, and everything else."""


class Ports:
    """The listening sockets, and what is answered on each; what a port does not answer is not found there."""

    def __init__(self, settings: Settings) -> None:
        """OSError if one is taken, SettingError if two of them contradict."""
        inside = {PROBES: settings.metrics_port, ADMIN: settings.admin_port}
        if settings.port and settings.port in inside.values():
            raise SettingError(
                f"--port {settings.port} answers everything else: give --metrics-port and --admin-port others"
            )
        self.sockets: list[socket.socket] = []
        self._areas: dict[int, set[str]] = {}
        self._waits = settings.listen_when_ready
        try:
            main = self._listen(settings.host, settings.port, "--port", later=self._waits)
            for area, port in inside.items():
                if port is not None and (port == 0 or port not in self._areas):
                    port = self._listen(settings.admin_host or settings.host, port, "--metrics-port or --admin-port")
                if port is not None:
                    self._areas[port].add(area)
        except OSError:
            self.close()
            raise
        self._areas[main] = {MAIN, PROBES, ADMIN}.difference(*self._areas.values())

    def _listen(self, host: str, port: int, setting: str, *, later: bool = False) -> int:
        """Open another port; its number."""
        self.sockets.append(listen(host, port, setting, later=later))
        number = _port(self.sockets[-1])
        self._areas[number] = set()
        return number

    def answers(self, port: int, area: str) -> bool:
        """Whether this port answers what belongs to this area."""
        return area in self._areas[port]

    def predicts(self, listener: socket.socket) -> bool:
        """Whether it answers predictions."""
        return self.answers(_port(listener), MAIN)

    def waits(self, listener: socket.socket) -> bool:
        """Whether it does not listen before predictions can be answered."""
        return self._waits and self.predicts(listener)

    def asks_client(self, listener: socket.socket) -> bool:
        """Whether clients show their certificates here: what Prometheus and probes ask for alone needs none."""
        return self._areas[_port(listener)] != {PROBES}

    def urls(self, scheme: str) -> dict[str, str]:
        """Where each area is answered."""
        return {area: _url(scheme, one) for one in self.sockets for area in sorted(self._areas[_port(one)])}

    def close(self) -> None:
        """Close this process's copies of the sockets."""
        for one in self.sockets:
            one.close()


def _port(listener: socket.socket) -> int:
    return int(listener.getsockname()[1])


def _url(scheme: str, listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
