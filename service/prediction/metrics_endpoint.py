"""The text of GET /metrics: whichever API process is asked tells of the whole server."""

import asyncio
import os
from collections.abc import Callable
from functools import partial

from service.auth.guard import Guard
from service.batching.thread_pool import started_pool
from service.metrics.metrics import Metrics
from service.metrics.process_tree import ProcessTree
from service.metrics.shared_scrape import SharedScrape
from service.metrics.snapshot import Snapshot, build_info
from service.policy import SCRAPE_INTERVAL_S


class MetricsEndpoint:
    """Renders all that is counted, and beside it what is so now, which `look` tells."""

    def __init__(self, metrics: Metrics, guard: Guard | None, look: Callable[[], Snapshot]) -> None:
        self._metrics, self._guard, self._look = metrics, guard, look
        self._process_tree, self._build = ProcessTree(os.getppid()), build_info()
        self._thread = started_pool(1, "metrics")
        self._scrapes = {
            openmetrics: SharedScrape(partial(self._render, openmetrics), SCRAPE_INTERVAL_S)
            for openmetrics in (False, True)
        }

    def close(self) -> None:
        """Let the thread end."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def text(self, *, openmetrics: bool = False) -> bytes:
        """The text in the format of Prometheus, or of OpenMetrics."""
        return await self._scrapes[openmetrics].text()

    async def _render(self, openmetrics: bool) -> bytes:
        """On a thread, as it takes milliseconds; what the event loop changes is read before."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, self._render_on_thread, self._look(), openmetrics)

    def _render_on_thread(self, snapshot: Snapshot, openmetrics: bool) -> bytes:
        of_keys = self._guard.counts.collect() if self._guard else ()
        others = [*snapshot.collect(), self._build, *self._process_tree.collect(), *of_keys]
        return self._metrics.render(others, openmetrics=openmetrics)
