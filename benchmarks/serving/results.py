"""The visits of one workload, by server and number of connections: spreads, ratios, and the document that is kept."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.serving.ratios import Ratio, Spread
from benchmarks.serving.rounds import METHOD, LoadSample, Measured, Plan, Visit
from benchmarks.serving.servers import ServerSpec
from benchmarks.serving.workloads import Workload

OURS = "ours"
COMPARED = ("requests_per_s", "p50_ms", "p99_ms", "cpu_s_per_1000")
MORE_IS_BETTER = ("requests_per_s",)


class Results:
    """What was measured of one workload."""

    def __init__(self, workload: Workload, plan: Plan, measured: Measured) -> None:
        self.workload, self.plan = workload, plan
        self._visits, self._floors, self._disturbed = measured.visits, measured.floors, measured.disturbed
        self.servers = list(dict.fromkeys(visit.server for visit in self._visits))

    def samples(self, server: str, connections: int) -> list[LoadSample]:
        """One for each turn; none if that was not measured."""
        return [
            sample
            for visit in self._visits
            for sample in visit.samples
            if visit.server == server and sample.connections == connections
        ]

    def values(self, server: str, connections: int, figure: str) -> list[float]:
        """A figure in each turn."""
        return [sample.figures()[figure] for sample in self.samples(server, connections)]

    def spread(self, server: str, connections: int, figure: str) -> Spread:
        """A figure over the turns."""
        return Spread.of(self.values(server, connections, figure))

    def ratio(self, peer: str, connections: int, figure: str) -> Ratio:
        """How many times better we are than a peer."""
        ours, theirs = self.values(OURS, connections, figure), self.values(peer, connections, figure)
        return Ratio.of(
            list(zip(ours, theirs, strict=True) if figure in MORE_IS_BETTER else zip(theirs, ours, strict=True))
        )

    def of_floor(self, connections: int) -> Ratio:
        """Our requests/s, as a part of the images/s of bare loops at the batch size that was fastest in that turn."""
        ours = self.values(OURS, connections, "requests_per_s")
        best = [max(sample.images_per_s for sample in floors) for floors in self._floors]
        return Ratio.of(list(zip(ours, best, strict=True)))

    def unloaded(self, server: str) -> dict[str, Spread]:
        """Start, idling and memory over the rounds."""
        visits = [visit for visit in self._visits if visit.server == server]
        figures: dict[str, Callable[[Visit], float]] = {
            "cold_start_s": lambda visit: visit.cold_start_s,
            "idle_percent_of_a_core": lambda visit: 100 * visit.idle_cores,
            "rss_mib": lambda visit: visit.memory.rss_mib,
            "pss_mib": lambda visit: visit.memory.pss_mib,
        }
        return {name: Spread.of([figure(visit) for visit in visits]) for name, figure in figures.items()}

    def floor(self) -> dict[int, dict[str, Spread]]:
        """Bare loops by batch size: images/s of all together, and microseconds of CPU an image."""
        sizes = [sample.batch for sample in self._floors[0]] if self._floors else []
        spreads = {}
        for place, size in enumerate(sizes):
            samples = [floors[place] for floors in self._floors]
            spreads[size] = {
                "images_per_s": Spread.of([sample.images_per_s for sample in samples]),
                "cpu_us_per_image": Spread.of([sample.cpu_us_per_image for sample in samples]),
            }
        return spreads

    def batches(self, server: str, connections: int) -> dict[str, int]:
        """Batches by size bucket, over all rounds."""
        total: dict[str, int] = {}
        for sample in self.samples(server, connections):
            for bound, count in (sample.batches or {}).items():
                total[bound] = total.get(bound, 0) + count
        return {bound: count for bound, count in total.items() if count}

    def document(self, servers: Sequence[ServerSpec]) -> dict[str, Any]:
        """All of it, for the results file."""
        return {
            "job": {
                "name": self.workload.name,
                "image_bytes": len(self.workload.image),
                "different_images": len(self.workload.traffic) or 1,
                "model": self.workload.artifact.name,
                "model_sha256": self.workload.artifact.sha256,
            },
            "servers": {server.name: server.describe() for server in servers},
            "plan": asdict(self.plan),
            "loaded": [self._loaded(server, n) for server in self.servers for n in self.plan.connections],
            "unloaded": {server: _plain(self.unloaded(server)) for server in self.servers},
            "floor": {str(size): _plain(spreads) for size, spreads in self.floor().items()},
            "ratios": {"method": METHOD, "times_better": self._ratios()},
            "visits": [asdict(visit) for visit in self._visits],
            "disturbed": [asdict(visit) for visit in self._disturbed],
        }

    def _loaded(self, server: str, connections: int) -> dict[str, Any]:
        return {
            "server": server,
            "connections": connections,
            **{name: asdict(self.spread(server, connections, name)) for name in (*COMPARED, "wrk_us", "others_cores")},
            "failed": sum(sample.load.failed for sample in self.samples(server, connections)),
            "batches": self.batches(server, connections) or None,
        }

    def _ratios(self) -> list[dict[str, Any]]:
        if OURS not in self.servers:
            return []
        peers = [
            {"peer": peer, "connections": n, "figure": figure, **asdict(self.ratio(peer, n, figure))}
            for peer in self.servers
            if peer != OURS
            for n in self.plan.connections
            for figure in COMPARED
        ]
        floor = [
            {"peer": "floor", "connections": n, "figure": "requests_per_s", **asdict(self.of_floor(n))}
            for n in self.plan.connections
            if self._floors
        ]
        return peers + floor


def _plain(spreads: dict[str, Spread]) -> dict[str, dict[str, float]]:
    return {name: asdict(spread) for name, spread in spreads.items()}
