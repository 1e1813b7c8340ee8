"""What an operator has decided about the models since the start, over what the repository holds."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace


@dataclass(frozen=True, slots=True)
class Selection:
    """Decisions that last until the server ends or others are made.

    Attributes:
        pinned: version by model, of those that are not to be served in their newest one.
        unloaded: models that are not to be served.
        deleted: models and versions that are not to be served.
        shadow: model and version that gets copies of what the served version of the model is asked.

    """

    pinned: Mapping[str, int] = field(default_factory=dict)
    unloaded: frozenset[str] = frozenset()
    deleted: frozenset[tuple[str, int]] = frozenset()
    shadow: tuple[str, int] | None = None

    def load(self, model: str, version: int | None) -> "Selection":
        """Serve this version, or without one the newest that can be read."""
        pinned = {name: pin for name, pin in self.pinned.items() if name != model}
        deleted = {one for one in self.deleted if one[0] != model or version not in (None, one[1])}
        if version is not None:
            pinned[model] = version
        return Selection(pinned, self.unloaded - {model}, frozenset(deleted), self._shadow_without(model, version))

    def exchange(self, model: str, version: int, served: int) -> "Selection":
        """Serve this version in place of the one that is served, and a newer one than both once there is any.

        A model that was pinned stays so, to this version.
        """
        pinned = {**self.pinned, model: version} if model in self.pinned else self.pinned
        passed_over = {(model, served)} if served > version else set()
        deleted = self.deleted - {(model, version)} | passed_over
        return Selection(pinned, self.unloaded - {model}, deleted, self._shadow_without(model, version))

    def unload(self, model: str) -> "Selection":
        """Serve no version of it."""
        return replace(self, unloaded=self.unloaded | {model})

    def delete(self, model: str, version: int) -> "Selection":
        """Do not serve this version; another one takes its place if there is any."""
        pinned = {name: pin for name, pin in self.pinned.items() if (name, pin) != (model, version)}
        deleted = self.deleted | {(model, version)}
        return replace(self, pinned=pinned, deleted=deleted, shadow=self._shadow_without(model, version))

    def _shadow_without(self, model: str, version: int | None) -> tuple[str, int] | None:
        """The shadow, unless it is this version."""
        return None if self.shadow == (model, version) else self.shadow

    def allows(self, model: str, version: int) -> bool:
        """Whether this version may be served, as more than a shadow."""
        is_out = model in self.unloaded or (model, version) in self.deleted or (model, version) == self.shadow
        return not is_out and self.pinned.get(model, version) == version


UNDECIDED = Selection()
"""The newest version of every model."""
