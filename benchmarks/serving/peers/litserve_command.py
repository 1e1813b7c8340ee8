"""The command line of a peer that is built on stock LitServe."""

import argparse
from collections.abc import Callable

import litserve as ls


def serve(make_api: Callable[[float], ls.LitAPI], accelerator: str, wait_ms: float) -> None:
    """Serve what `make_api` makes of the seconds that a batch waits for more; the flags say where and how."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--api-servers", type=int, default=1)
    parser.add_argument("--wait-ms", type=float, default=wait_ms)
    arguments = parser.parse_args()
    api = make_api(arguments.wait_ms / 1e3)
    ls.LitServer(api, accelerator=accelerator, devices=1, workers_per_device=arguments.workers).run(
        host="127.0.0.1",
        port=arguments.port,
        num_api_servers=arguments.api_servers,
        generate_client_file=False,
        log_level="warning",
    )
