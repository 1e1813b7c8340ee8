"""`python -m training` is `resnet-train`."""

import sys


def main() -> int:
    """Run the command; its exit code. Ctrl-C is told in a line also while the modules are loaded."""
    try:
        from training import cli
    except KeyboardInterrupt:
        print("error: stopped by SIGINT", file=sys.stderr)  # noqa: T201
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
