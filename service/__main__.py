"""`python -m service` is `resnet-serve`."""

import os
import sys


def main() -> int:
    """Run the command; its exit code. Ctrl-C is told in a line also while the modules are loaded."""
    # numpy's, of which nothing here has use: where it may not start a thread for each core, it sends SIGINT.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    try:
        from service import cli
    except KeyboardInterrupt:
        print("stopped by SIGINT", file=sys.stderr)  # noqa: T201
        return 130
    return cli.main()


if __name__ == "__main__":
    sys.exit(main())
