"""What becomes of a shadow, by what is counted of it: it is served, or taken back; so is the version that it became.

Counted is for the whole server, from the change on that brought the version, and anew after so many images.
"""

from collections.abc import Sequence

import structlog

from service.catalog import Catalog
from service.ipc.control import ModelChange
from service.metrics.metrics import RESTART_REASONS, Metrics
from service.policy import DEATHS, FAILED_LEAST, FAILED_SHARE, FAR_AGREEMENT, JUDGED_IMAGES
from service.supervisor.model_set import ModelSet

log = structlog.get_logger()


class ShadowWatch:
    """Looks whether the shadow, or the version that was one, is good enough.

    `promote_after`: images after which the shadow is served if both versions agreed in this share of them; 0: never.
    """

    def __init__(self, metrics: Metrics, promote_after: int, promote_agreement: float) -> None:
        self._metrics, self._after, self._agreement = metrics, promote_after, promote_agreement
        self._models: ModelSet | None = None
        self._judge: _ShadowJudge | _LiveJudge | None = None

    def look(self, models: ModelSet) -> ModelChange | None:
        """What is to be changed about the models that are served now; it is told once."""
        if models is not self._models:
            before, self._models = self._models, models
            self._judge = self._find_judge(before.catalog if before else None, models.catalog)
        change = self._judge.look() if self._judge else None
        if change:
            self._judge = None
        return change

    def _find_judge(self, before: Catalog | None, now: Catalog) -> "_ShadowJudge | _LiveJudge | None":
        if now.shadow is not None:
            shadow = now[now.shadow]
            return _ShadowJudge(self._metrics, shadow.name, shadow.version, self._after, self._agreement)
        served = {(artifact.name, artifact.version) for artifact in now.artifacts}
        if isinstance(self._judge, _LiveJudge) and (self._judge.name, self._judge.version) in served:
            return self._judge
        if before and before.shadow is not None:
            shadow = before[before.shadow]
            if (shadow.name, shadow.version) in served:
                former = before[before.find(shadow.name, None)].version
                return _LiveJudge(self._metrics, shadow.name, shadow.version, former)
        return None


class _Counts:
    """What some cells of the metrics, and the deaths of workers, have grown by."""

    def __init__(self, metrics: Metrics, cells: Sequence[int]) -> None:
        self._metrics = metrics
        self._cells = [*cells, *(metrics.worker_restarts.cell(reason) for reason in RESTART_REASONS)]
        self._named = len(cells)
        self.begin()

    def begin(self) -> None:
        """Count anew."""
        self._before = self._metrics.total(self._cells)

    def read(self) -> list[int]:
        """Of each cell, and of deaths."""
        grown = self._metrics.total(self._cells) - self._before
        return [*map(int, grown[: self._named]), int(grown[self._named :].sum())]


def _fails(failed: int, of: int) -> bool:
    return failed >= FAILED_LEAST and failed > FAILED_SHARE * of


class _ShadowJudge:
    """Of a shadow."""

    def __init__(self, metrics: Metrics, name: str, version: int, after: int, agreement: float) -> None:
        self._name, self._version, self._after, self._agreement = name, version, after, agreement
        cells = [metrics.shadow_images.cell(name, str(version), outcome) for outcome in ("agreed", "differed")]
        cells += [metrics.shadow_images.cell(name, str(version), outcome) for outcome in ("failed", "lost")]
        self._counts = _Counts(metrics, cells)

    def look(self) -> ModelChange | None:
        """Promote it, take it back, or neither."""
        agreed, differed, failed, lost, deaths = self._counts.read()
        images = agreed + differed + failed + lost
        agreement = agreed / max(1, images)
        about = f"{agreed} of {images} images got the same class"
        if min(lost, deaths) >= DEATHS:
            return self._take_back(f"{deaths} workers died, with {lost} of its images")
        if _fails(failed, images):
            return self._take_back(f"it failed for {failed} of {images} images")
        if images < (self._after or JUDGED_IMAGES):
            return None
        if self._after and agreement >= self._agreement:
            log.info("shadow is promoted", model=self._name, version=self._version, why=about)
            return ModelChange("promote", self._name, self._version)
        if self._after and agreement < self._agreement - FAR_AGREEMENT:
            return self._take_back(about)
        self._counts.begin()
        return None

    def _take_back(self, why: str) -> ModelChange:
        log.error("shadow is taken back", model=self._name, version=self._version, why=why)
        return ModelChange("delete", self._name, self._version)


class _LiveJudge:
    """Of a version that was a shadow and is served now in place of a former one."""

    def __init__(self, metrics: Metrics, name: str, version: int, former: int) -> None:
        self.name, self.version, self._former = name, version, former
        cells = [metrics.requests.cell(name, str(version), outcome) for outcome in ("ok", "server_error")]
        self._counts = _Counts(metrics, cells)

    def look(self) -> ModelChange | None:
        """Load the former version if this one fails."""
        ok, failed, deaths = self._counts.read()
        if deaths >= DEATHS:
            return self._take_back(f"{deaths} workers died")
        if _fails(failed, ok + failed):
            return self._take_back(f"{failed} of {ok + failed} requests failed")
        if ok + failed >= JUDGED_IMAGES:
            self._counts.begin()
        return None

    def _take_back(self, why: str) -> ModelChange:
        about = {"model": self.name, "version": self.version}
        log.error("promoted version is taken back", **about, instead=self._former, why=why)
        return ModelChange("load", self.name, self._former)
