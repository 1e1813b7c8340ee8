"""Names of classes in sentences: there may be thousands, and what matters are those that differ."""

from collections.abc import Collection, Iterator, Sequence

_MOST_NAMED = 8
"""Names in a sentence; of more, the first ones and how many there are."""


def named(names: Collection[str]) -> str:
    """Return the names with commas between them, the first few if there are many."""
    listed = sorted(names)
    more = f" and {len(listed) - _MOST_NAMED:,} more" if len(listed) > _MOST_NAMED else ""
    return ", ".join(listed[:_MOST_NAMED]) + more


def differences_of_classes(before: Sequence[str], now: Sequence[str]) -> Iterator[str]:
    """Yield in what these classes are others than before: which are new, which are missing, or their order."""
    kinds = {"new": set(now) - set(before), "missing": set(before) - set(now)}
    if told := ", ".join(f"{len(names):,} {kind} ({named(names)})" for kind, names in kinds.items() if names):
        yield f"classes: {told}"
    elif moved := [place for place, name in enumerate(before) if now[place] != name]:
        place = moved[0]
        yield f"classes: the same in another order: number {place} was {before[place]}, now it is {now[place]}"
