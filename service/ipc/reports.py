"""What a worker tells of its models once it has tried to load them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ModelReport:
    """One model in one worker: ready, or failed and why."""

    model: int  # place in the catalog
    state: str  # ready | failed
    reason: str = ""
    engine: str = ""
    device: str = ""
    precision: str = ""
    load_seconds: float = 0.0
    max_batch_size: int = 1
    paying_batch_size: int = 1  # a larger one makes an image hardly cheaper
    batch_latency_ms: tuple[tuple[int, float], ...] = ()

    @property
    def image_cost_ns(self) -> float:
        """What an image costs in the largest batch that was measured; 0 for a model that failed."""
        size, latency_ms = max(self.batch_latency_ms, default=(1, 0.0))
        return latency_ms * 1e6 / size
