"""What becomes of a shadow, by what is counted of it: it is served, or taken back; so is the version that it became.

Counted is for the whole server, from the change on that brought the version, and anew after so many images; of deaths
only recent ones count.
"""

import math
import time
from collections.abc import Sequence

import structlog

from models.artifact.artifact import Artifact
from service.catalog.catalog import Catalog, Identity, identity
from service.ipc.control import ModelChange
from service.metrics.families import Counter
from service.metrics.metrics import Metrics
from service.policy import (
    DEATHS,
    DEATHS_WITHIN_S,
    FAILED_LEAST,
    FAILED_SHARE,
    FAR_AGREEMENT,
    JUDGED_AGAIN_S,
    JUDGED_IMAGES,
)
from service.pools.model_set import ModelSet

log = structlog.get_logger()

_SHADOW_OUTCOMES, _LIVE_OUTCOMES = ("agreed", "differed", "failed", "lost"), ("ok", "server_error")


class ShadowWatch:
    """Looks whether the shadow, or the version that was one, is good enough.

    `promote_after`: images after which the shadow is served if both versions agreed in this share of them; 0: never.
    """

    def __init__(self, metrics: Metrics, promote_after: int, promote_agreement: float) -> None:
        self._metrics, self._after, self._agreement = metrics, promote_after, promote_agreement
        self._models: ModelSet | None = None
        self._judge: _ShadowJudge | _LiveJudge | None = None
        self._looks_from_s = 0.0

    def follow(self, models: ModelSet, deaths: int, now_s: float) -> None:
        """Count what becomes of the models that are served; `deaths`: how many workers that served have died so far."""
        if models is not self._models:
            before, self._models = self._models, models
            judge = self._find_judge(before.catalog if before else None, models.catalog, deaths)
            if judge is not self._judge:
                self._judge, self._looks_from_s = judge, 0.0
        if self._judge:
            self._judge.count(deaths, now_s)

    def look(self, now_s: float) -> ModelChange | None:
        """What is to be changed about the models that are served now; it is told once, unless that is refused."""
        if self._judge is None or now_s < self._looks_from_s:
            return None
        change = self._judge.judge()
        if change:
            self._looks_from_s = math.inf
        return change

    def on_ended(self, refused: str, _changed: bool) -> None:
        """What it told is done, or was refused: then its cause may pass, and it looks again later."""
        if refused:
            self._looks_from_s = time.monotonic() + JUDGED_AGAIN_S

    def _find_judge(self, before: Catalog | None, now: Catalog, deaths: int) -> "_ShadowJudge | _LiveJudge | None":
        if now.shadow is not None:
            if before and _compared(before) == _compared(now):
                return self._judge
            shadow = now[now.shadow]
            counts = _Counts(self._metrics, self._metrics.shadow_images, shadow, _SHADOW_OUTCOMES, deaths)
            return _ShadowJudge(counts, shadow.name, shadow.version, self._after, self._agreement)
        served = {(artifact.name, artifact.version) for artifact in now.artifacts}
        if isinstance(self._judge, _LiveJudge) and (self._judge.name, self._judge.version) in served:
            return self._judge
        if before and before.shadow is not None:
            shadow = before[before.shadow]
            if (shadow.name, shadow.version) in served:
                former = before[before.find(shadow.name, None)].version
                counts = _Counts(self._metrics, self._metrics.requests, shadow, _LIVE_OUTCOMES, deaths)
                return _LiveJudge(counts, shadow.name, shadow.version, former)
        return None


def _compared(catalog: Catalog) -> list[Identity]:
    """The shadow and the version that it is compared with, none without a shadow."""
    if catalog.shadow is None:
        return []
    live = catalog.find(catalog[catalog.shadow].name, None)
    return [identity(catalog[number]) for number in (live, catalog.shadow)]


class _Counts:
    """What a version's counts by outcome have grown by, and how many workers that served have died of late."""

    def __init__(
        self, metrics: Metrics, counter: Counter, artifact: Artifact, outcomes: Sequence[str], deaths: int
    ) -> None:
        self._metrics = metrics
        self._cells = [counter.cell(artifact.name, str(artifact.version), outcome) for outcome in outcomes]
        self._deaths, self._recent = deaths, _Recent()
        self.begin()

    def begin(self) -> None:
        """Count anew, but for deaths."""
        self._before = self._metrics.total(self._cells)

    def read(self, deaths: int, now_s: float) -> list[int]:
        """How often each outcome was counted, and last how many workers have died of late."""
        died, self._deaths = deaths - self._deaths, deaths
        grown = self._metrics.total(self._cells) - self._before
        return [*map(int, grown), self._recent.add(died, now_s)]


class _Recent:
    """When something happened that only counts for a while."""

    def __init__(self) -> None:
        self._times_s: list[float] = []

    def add(self, times: int, now_s: float) -> int:
        """Note that it has happened so often now; how often it has of late."""
        self._times_s = [time_s for time_s in self._times_s if now_s - time_s < DEATHS_WITHIN_S] + times * [now_s]
        return len(self._times_s)


def _fails(failed: int, of: int) -> bool:
    return failed >= FAILED_LEAST and failed > FAILED_SHARE * of


class _ShadowJudge:
    """Judges a shadow: whether it is served, or taken back."""

    def __init__(self, counts: _Counts, name: str, version: int, after: int, agreement: float) -> None:
        self._counts, self._name, self._version, self._after, self._agreement = counts, name, version, after, agreement
        self._lost, self._losses = 0, _Recent()

    def count(self, deaths: int, now_s: float) -> None:
        """Read the counts; images that were lost since the last time were lost at once, however large a batch is."""
        self._counted = self._counts.read(deaths, now_s)
        lost = self._counted[-2]
        self._recent_losses, self._lost = self._losses.add(int(lost > self._lost), now_s), lost

    def judge(self) -> ModelChange | None:
        """Promote it, take it back, or neither."""
        (agreed, differed, failed, lost, deaths), losses = self._counted, self._recent_losses
        images = agreed + differed + failed + lost
        agreement = agreed / max(1, images)
        about = f"{agreed} of {images} images got the same class"
        if min(losses, deaths) >= DEATHS:
            return self._take_back(f"{deaths} workers died, and {losses} times with images of it")
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
        self._lost = 0
        return None

    def _take_back(self, why: str) -> ModelChange:
        log.error("shadow is taken back", model=self._name, version=self._version, why=why)
        return ModelChange("delete", self._name, self._version)


class _LiveJudge:
    """Judges a version that was a shadow and is served now in place of a former one: whether that comes back."""

    def __init__(self, counts: _Counts, name: str, version: int, former: int) -> None:
        self._counts, self.name, self.version, self._former = counts, name, version, former

    def count(self, deaths: int, now_s: float) -> None:
        """Read the counts."""
        self._counted = self._counts.read(deaths, now_s)

    def judge(self) -> ModelChange | None:
        """Restore the former version if this one fails."""
        ok, failed, deaths = self._counted
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
        return ModelChange("restore", self.name, self._former)
