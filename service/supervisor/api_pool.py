"""The API processes: started, watched, replaced, told."""

from collections.abc import Callable, Iterable
from multiprocessing.process import BaseProcess

import structlog

from service.ipc.channels import Channels
from service.ipc.control import CUT_SHORT, Begin, ControlMessage
from service.metrics.metrics import Metrics
from service.supervisor.children import ApiChild
from service.supervisor.launcher import Launcher
from service.supervisor.process_pool import OomKills, ProcessPool
from service.supervisor.reactor import Reactor

log = structlog.get_logger()


class ApiPool(ProcessPool[ApiChild]):
    """The API processes. `news` is what a new one must know.

    Attributes:
        lost: requests that got no answer because their process did not live to the end of the drain.
        failed: whether a process did not, or could not answer all that it held.

    """

    noun, key = "API process", "index"

    def __init__(
        self,
        launcher: Launcher,
        channels: Channels,
        metrics: Metrics,
        reactor: Reactor,
        oom_kills: OomKills,
        news: Callable[[], Iterable[ControlMessage]],
        give_up: Callable[[str], None],
    ) -> None:
        super().__init__(
            [ApiChild(index) for index in range(channels.shared_state.api_processes)], reactor, oom_kills, give_up
        )
        self._launcher, self._beats, self._metrics, self._news = launcher, channels.shared_state.beats, metrics, news
        self.lost = 0
        self.failed = False

    def tell(self, message: ControlMessage) -> None:
        """Send this to every process."""
        for api in self.children:
            if api.process and api.writer:
                api.writer.send(message)

    def look(self, now_s: float) -> None:
        """Start those whose time has come, kill those that hang, and send on what did not fit into a pipe."""
        self.start_due(now_s)
        for api in self.children:
            if api.process and api.writer:
                api.writer.flush()
            if api.process and api.is_silent(self._beats[api.index], now_s):
                self._kill_hung(api, "its event loop stands still")

    def _launch(self, child: ApiChild) -> BaseProcess:
        child.close_control()
        control = child.open_control()
        process = self._launcher.launch_api(child.index, control)
        assert child.writer is not None
        for message in (*self._news(), Begin()):
            child.writer.send(message)
        return process

    def _on_end(self, child: ApiChild) -> None:
        code = self._reap(child)
        reason = self._reason(child, code)
        child.close_control()
        lost = self._metrics.lose(child.index)
        if self._closing:
            self.lost += lost
            self.failed |= code != 0
        if self._closing and code in (0, CUT_SHORT):
            return
        log.error("API process died", index=child.index, exit_code=code, reason=reason, requests_lost=lost)
        if not self._closing:
            self._metrics.api_restarts.inc(reason)
            self._plan_restart(child)
