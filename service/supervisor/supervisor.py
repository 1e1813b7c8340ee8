"""The server from its first process to its last: what happens is waited for here, and the pools do what follows.

The supervisor has one thread, which waits for a signal, a report, the end of a process or a due time. It knows nothing
of LitServe or uvicorn: a `Launcher` makes the processes.
"""

import math
import signal
import time

import structlog

from service.auth.guard import Guard
from service.auth.tls import ServerTls
from service.config.settings import Settings
from service.ipc.channels import Channels
from service.ipc.control import Drain, ModelChange
from service.metrics.metrics import Metrics
from service.policy import KILL_MARGIN_S, SIGNAL_ECHO_S, WATCH_INTERVAL_S
from service.pools.api_pool import ApiPool
from service.pools.launcher import Launcher
from service.pools.model_set import ModelSet
from service.pools.process_pool import PoolContext
from service.pools.reactor import Reactor
from service.pools.signals import AT_ONCE, RELOAD, SignalReader
from service.pools.worker_pool import WorkerPool
from service.supervisor.credentials import Credentials
from service.supervisor.model_control import ModelControl
from service.supervisor.model_source import ModelSource
from service.supervisor.repository_watch import Fingerprint

log = structlog.get_logger()


class Supervisor:
    """Runs the server from its first process to its last."""

    def __init__(
        self,
        launcher: Launcher,
        channels: Channels,
        models: ModelSet,
        source: ModelSource,
        served: Fingerprint,
        metrics: Metrics,
        settings: Settings,
        guard: Guard | None = None,
        tls: ServerTls | None = None,
    ) -> None:
        self._launcher, self._metrics, self._settings = launcher, metrics, settings
        self._reactor = Reactor()
        context = PoolContext(launcher, channels, metrics, self._reactor, self._give_up)
        self._apis = ApiPool(context, lambda: self._workers, lambda change, answer: self._models.ask(change, answer))
        self._workers = WorkerPool(context, models, settings.start_timeout, self._apis.tell, settings.memory_budget)
        self._models = ModelControl(self._reactor, self._workers, self._apis, source, served, metrics, settings)
        self._credentials = Credentials(self._reactor, settings, guard, tls, metrics, self._apis.tell)
        self._exit_code = 0
        self._ends_at_s = math.inf  # when draining: the latest end
        self._at_once = False
        self._stop: tuple[signal.Signals, float] | None = None  # the signal that stopped it first, and when

    def run(self) -> int:
        """Serve until a signal comes or the server gives up; the process's exit code."""
        try:
            self._serve()
        except Exception:
            log.exception("the supervisor failed")
            self._exit_code = 1
            self._kill_all()
        return self._exit_code

    def _serve(self) -> None:
        signals = SignalReader()
        self._reactor.watch(signals.fd, signals.clear)
        self._workers.start_all()
        self._apis.start_all()
        while not self._draining or self._apis.alive or self._workers.alive:
            self._reactor.wait(self._patience_s())
            for number in signals.take():
                self._on_signal(number)
            self._look(time.monotonic())
        if self._apis.lost or (self._apis.failed and not self._at_once):
            self._exit_code = 1
        tell = log.warning if self._exit_code else log.info
        requests = self._metrics.requests_by_outcome()
        tell("stopped", exit_code=self._exit_code, requests_lost=self._apis.lost, requests=requests)

    @property
    def _draining(self) -> bool:
        return self._ends_at_s < math.inf

    def _patience_s(self) -> float:
        due_s = min(self._workers.due_s, self._apis.restart_at_s)
        return max(0.0, min(due_s - time.monotonic(), WATCH_INTERVAL_S))

    def _look(self, now_s: float) -> None:
        """Do what is due. While API processes answer what they have accepted, workers are watched as ever."""
        self._apis.look(now_s)
        self._credentials.look(now_s)
        self._models.look(now_s)
        if self._draining and not self._apis.alive:
            self._workers.close()
            self._workers.kill_all()  # they hold nothing any more
        else:
            self._workers.look(now_s)
        if now_s > self._ends_at_s - KILL_MARGIN_S:
            self._workers.close()
            self._kill_all()

    def _kill_all(self) -> None:
        self._apis.kill_all()
        self._workers.kill_all()

    def _on_signal(self, number: signal.Signals) -> None:
        """The first that stops drains; the second, or SIGQUIT, ends all at once. SIGHUP stops nothing."""
        if number == RELOAD:
            self._reload()
        elif self._is_echo(number):
            pass
        elif number == AT_ONCE or self._draining:
            log.warning("stopping at once", signal=number.name)
            self._at_once = True
            self._end_within(0.0)
        else:
            log.info("stopping", signal=number.name)
            self._stop = number, time.monotonic()
            self._drain(self._settings.drain_delay)

    def _is_echo(self, number: signal.Signals) -> bool:
        """Whether it is the signal that has just stopped the server, sent twice."""
        return self._stop is not None and self._stop[0] == number and time.monotonic() - self._stop[1] < SIGNAL_ECHO_S

    def _reload(self) -> None:
        """Read again what may change while the server runs; what is wrong changes nothing."""
        if self._draining:
            return
        log.info("reloading", signal=RELOAD.name)
        self._models.ask(ModelChange("reread"))
        self._credentials.reload()

    def _give_up(self, why: str) -> None:
        if not self._draining:
            log.critical("giving up", why=why)
            self._exit_code = 1
            self._workers.close()
            self._drain(0.0)

    def _drain(self, delay_s: float) -> None:
        """API processes answer what they have accepted and end; then the workers are ended."""
        self._end_within(self._settings.grace)
        self._apis.tell(Drain(delay_s, self._settings.grace - 2 * KILL_MARGIN_S))

    def _end_within(self, grace_s: float) -> None:
        if not self._draining:
            self._models.close()
            self._credentials.close()
            self._launcher.close_listener()
            self._apis.close()
        self._ends_at_s = time.monotonic() + grace_s
