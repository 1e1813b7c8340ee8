"""The server with one tuned constant changed: `python -m benchmarks.changed_policy NAME=VALUE FLAGS...`."""

import sys

from service import policy


def read_change(assignment: str) -> tuple[str, float]:
    """Name and new value of a constant, which keeps its type, from NAME=VALUE."""
    name, _, value = assignment.partition("=")
    kind = type(getattr(policy, name))
    return name, kind(float(value))


def change(assignment: str) -> None:
    """Give a constant another value, before any module has read it."""
    setattr(policy, *read_change(assignment))


if __name__ == "__main__":
    change(sys.argv.pop(1))
    from service.cli import main

    sys.exit(main())
