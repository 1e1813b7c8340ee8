"""When models were last used, in an order that does not change with the clock of the day."""

import time
from typing import NamedTuple

from service.catalog.catalog import Catalog
from service.metrics.metrics import Metrics


class Use(NamedTuple):
    """When a batch of a model was seen to have run, and when that was on the clock of the day; the later is larger.

    `ends`: of the last batch in each API process, as they stood.
    """

    seen_s: float
    end_s: float
    ends: bytes


NEVER = Use(0.0, 0.0, b"")


class ModelUses:
    """The last use of each model, in any worker and any version, as the metrics told at one look after the other."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._uses: dict[str, Use] = {}

    def look(self, catalog: Catalog) -> None:
        """See which models have run since the last look: the clock of the day, which tells when, may be set back."""
        now_s = time.monotonic()
        for artifact in catalog.artifacts:
            ends = self._metrics.column(self._metrics.last_inference.cell(artifact.name))
            if ends.any() and ends.tobytes() != self.last(artifact.name).ends:
                self._uses[artifact.name] = Use(now_s, float(ends.max()), ends.tobytes())

    def last(self, name: str) -> Use:
        """The last use of a model."""
        return self._uses.get(name, NEVER)
