"""A program: runs another one on a Ray cluster of two nodes on this machine, and prints the nodes that had its actors.

Each node has three cores, whatever there are, so that an actor with two leaves no room there for a second one.
"""

import fcntl
import os
import runpy
import socket
import struct
import sys
from contextlib import suppress

import ray
from ray._private.state import actors
from ray.cluster_utils import Cluster

NODE = {"num_cpus": 3, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1", "include_dashboard": False}
QUIET = {"prestart_worker_first_driver": False, "enable_worker_prestart": False}


def raise_loopback() -> None:
    """A new network namespace has it, but down (netdevice(7): SIOCSIFFLAGS, IFF_UP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, suppress(PermissionError):
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))


def main(program: str, *arguments: str) -> None:
    raise_loopback()
    cluster = Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": QUIET})
    try:
        cluster.add_node(**NODE)
        os.environ["RAY_ADDRESS"] = cluster.address
        sys.argv = [program, *arguments]
        with suppress(SystemExit):
            runpy.run_path(program, run_name="__main__")
        print("NODES", *{actor["Address"]["NodeID"] for actor in actors().values()})  # noqa: T201
        ray.shutdown()
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
