"""`python -m service` is `resnet-serve`."""

import sys


def main() -> int:
    """Run the command; its exit code. Ctrl-C is told in a line also while the modules are loaded."""
    try:
        from service import cli
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)  # noqa: T201
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
