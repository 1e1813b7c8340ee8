"""What models take in memory, and what of it `--memory-budget` has room for."""

from collections.abc import Iterable

from service.catalog.catalog import Catalog, Identity, identity


class ModelSizes:
    """Bytes that models take in all workers together: what a worker has measured of each, times the workers.

    A model is named by its number in `catalog`; what was measured of a version stays known in another catalog.
    """

    def __init__(self, budget: int, workers: int, catalog: Catalog) -> None:
        """`budget` in bytes, for the models of all `workers`."""
        self._budget, self._workers, self.catalog = budget, workers, catalog
        self._measured: dict[Identity, int] = {}  # in one worker, the most that any has measured

    def note(self, model: int, memory_bytes: int) -> None:
        """A worker has loaded the model, and measured so many bytes."""
        one = identity(self.catalog[model])
        self._measured[one] = max(memory_bytes, self._measured.get(one, 1))

    def size(self, model: int) -> int:
        """Bytes of a model, 0 if that is not known yet."""
        return self._workers * self._measured.get(identity(self.catalog[model]), 0)

    def total(self, models: Iterable[int]) -> int:
        """Bytes of these models, as far as they are known."""
        return sum(map(self.size, models))

    @property
    def pinned(self) -> int:
        """Bytes of the models that are never unloaded."""
        return self.total(self.catalog.pinned)

    @property
    def room(self) -> int:
        """Bytes for all models: where those that are never unloaded take more than the budget, others are measured."""
        return max(self._budget, self.pinned)

    def is_too_large(self, model: int) -> bool:
        """Whether a model is known not to fit beside those that are never unloaded."""
        size = self.size(model)
        return size > 0 and model not in self.catalog.pinned and self.pinned + size > self._budget

    def why_too_large(self, model: int) -> str:
        """The reason to refuse it, with the budget in which it would fit."""
        size, pinned = self.size(model), self.pinned
        others = "the default model" if self.catalog.shadow is None else "the default model and the shadow"
        return (
            f"the model needs {size} bytes of memory, and --memory-budget leaves {max(0, self._budget - pinned)} "
            f"beside {others}: start the server with at least --memory-budget {pinned + size}"
        )
