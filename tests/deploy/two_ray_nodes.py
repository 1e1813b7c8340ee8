"""A program: runs another one on a Ray cluster of two nodes on this machine, and prints the nodes that had its actors.

    two_ray_nodes.py FOLDER PROGRAM ARGUMENT... [--then ARGUMENT...]

runs PROGRAM once for each list of arguments. A server of S3 has the files of FOLDER below s3://models/released; what is
written to s3://models/answers is copied to FOLDER/answers-of-s3. Each node has three cores, whatever there are, so that
an actor with two leaves no room there for a second one.
"""

import fcntl
import os
import runpy
import socket
import struct
import sys
from contextlib import suppress
from itertools import groupby
from pathlib import Path

import ray
from pyarrow.fs import copy_files
from ray._private.state import actors
from ray.cluster_utils import Cluster

from tests.service.remote.stores import s3

NODE = {"num_cpus": 3, "object_store_memory": 80 << 20, "node_ip_address": "127.0.0.1", "include_dashboard": False}
QUIET = {"prestart_worker_first_driver": False, "enable_worker_prestart": False}


def raise_loopback() -> None:
    """A new network namespace has it, but down (netdevice(7): SIOCSIFFLAGS, IFF_UP)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket, suppress(PermissionError):
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", b"lo", 1))


def main(folder: str, program: str, *arguments: str) -> None:
    raise_loopback()
    with s3(Path(folder)) as store:
        os.environ.update(store.settings)
        cluster = Cluster(initialize_head=True, head_node_args=NODE | {"_system_config": QUIET})
        try:
            cluster.add_node(**NODE)
            os.environ["RAY_ADDRESS"] = cluster.address
            for is_end, each in groupby(arguments, "--then".__eq__):
                if not is_end:
                    run(program, *each)
            answers = Path(folder, "answers-of-s3")
            answers.mkdir()
            copy_files("s3://models/answers", str(answers))
        finally:
            cluster.shutdown()


def run(program: str, *arguments: str) -> None:
    sys.argv = [program, *arguments]
    with suppress(SystemExit):
        runpy.run_path(program, run_name="__main__")
    of_this_run = [actor for actor in actors().values() if actor["JobID"] == ray.get_runtime_context().get_job_id()]
    print("NODES", *{actor["Address"]["NodeID"] for actor in of_this_run})  # noqa: T201
    ray.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
