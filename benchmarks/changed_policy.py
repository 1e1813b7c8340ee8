"""The server with one tuned constant changed: `python -m benchmarks.changed_policy NAME=VALUE FLAGS...`."""

import sys

from service import policy


def change(assignment: str) -> None:
    """Give a constant another value, before any module has read it."""
    name, _, value = assignment.partition("=")
    kind = type(getattr(policy, name))
    setattr(policy, name, kind(float(value)))


if __name__ == "__main__":
    change(sys.argv.pop(1))
    from service.cli import main

    sys.exit(main())
