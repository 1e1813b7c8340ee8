"""A server that a test plays, as a program: it answers one class, and its second life can be a short one."""

import argparse
import json
import os
import signal
import sys
from http.server import ThreadingHTTPServer
from pathlib import Path

from tests.benchmarks.conftest import Handler


def main() -> None:
    """Serve; with `--lived`, a file that the first life makes, the second life ends with its first answer."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--label")
    parser.add_argument("--lived", type=Path)
    options = parser.parse_args()
    is_short = options.lived is not None and options.lived.exists()
    if options.lived:
        options.lived.touch()
    predictions = [{"label": options.label}] * int(os.environ["PEER_TOP_K"])

    def respond(handler: Handler, _: bytes) -> None:
        handler.answer(200, json.dumps({"predictions": predictions}).encode())
        if is_short:
            os.write(sys.stdout.fileno(), b"this life was short\n")
            os._exit(1)

    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended in order"))
    ThreadingHTTPServer(("127.0.0.1", options.port), type("Played", (Handler,), {"respond": respond})).serve_forever()


if __name__ == "__main__":
    main()
