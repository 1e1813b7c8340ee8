"""Servers that are to be hurt: each test starts its own."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.faults.capacity import PLACES, check_capacity
from tests.faults.ledger import DEAR, GOOD, PHOTOS
from tests.service.served import Servers, until

# Values of a picture's first pixel that make the graph misbehave.
HANGS, FAILS, HOARDS, TOILS = 1, 13, 17, 19
HANG_LOOPS = 1_000_000  # of about a millisecond each
TOIL_LOOPS = 500
DEAR_LOOPS = 10
HOARD_BYTES = 2 << 30  # a quarter of it must be there long before the worker counts as hung


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three models: a dear one, one for photographs, and one that answers `/predict`.

    The last one's graph loops for ever or for long, fails, or takes much memory when a picture asks for it.
    """
    path = tmp_path_factory.mktemp("faulty")
    loops = {HANGS: HANG_LOOPS, TOILS: TOIL_LOOPS}
    make_artifact(path, "faulty", loops=loops, fails={FAILS}, hoards={HOARDS: HOARD_BYTES})
    make_artifact(path, DEAR, loops={GOOD: DEAR_LOOPS})
    make_artifact(path, PHOTOS[0], shape=PHOTOS[1])
    return path


@pytest.fixture
def serve(repository: Path) -> Iterator[Servers]:
    """Start servers of those models for one test, after which those that still run have all their capacity."""
    settings = {"RESNET_SERVE_DEFAULT_MODEL": "faulty", "RESNET_SERVE_QUEUE_CAPACITY": str(PLACES)}
    servers = Servers("--model-repository", repository, **settings)
    yield servers
    try:
        for served in servers.started:
            check_capacity(served)
    finally:
        servers.close()


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group of its own whose processes have HOARD_BYTES / 4 of memory between them."""
    first = Path("/sys/fs/cgroup/memory")
    mount, limit = (first, "memory.limit_in_bytes") if first.is_dir() else (first.parent, "memory.max")
    group = mount / f"resnet-serve-test-{os.getpid()}"
    try:
        group.mkdir()
        (group / limit).write_text(str(HOARD_BYTES // 4))
    except OSError as error:
        with suppress(OSError):
            group.rmdir()
        pytest.skip(f"no control group that limits memory can be made here: {error}")
    yield group
    until(lambda: not (group / "cgroup.procs").read_text(), "the group's processes to end")
    group.rmdir()
