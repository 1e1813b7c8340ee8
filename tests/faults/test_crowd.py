"""So many busy clients that there is always another one to read from."""

import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from benchmarks.serving import wrk
from benchmarks.serving.workloads import Upload
from tests.faults.capacity import ANSWERED
from tests.service.pictures import png
from tests.service.served import DEADLINE_S, Servers, until

CROWD = 2000
SECONDS = 20
UPLOAD_BYTES = 12 << 20  # in hundreds of pieces
REFUSED = 'resnet_requests_shed_total{reason="full"}'
TARGET_S = 0.03  # in which no server even refuses the whole crowd


@pytest.fixture
def many_descriptors() -> Iterator[None]:
    """As many as this machine allows, for the server and for its clients."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_descriptors")
def test_new_clients_probes_and_uploads_do_not_wait_for_the_end_of_the_load(
    serve: Servers, tmp_path: Path, require: Callable[[str], str]
) -> None:
    require("wrk")
    served = serve("--workers", "1", "--api-processes", "1").ready()
    with ThreadPoolExecutor(1) as pool:
        request = Upload(png(), "image/png")
        load = pool.submit(wrk.drive, served.url + "/predict", request, CROWD, SECONDS, tmp_path)
        until(lambda: served.metrics().get(ANSWERED, 0) > CROWD, "the whole crowd to be served")
        assert [served.status(path) for path in ("/livez", "/readyz", "/metrics")] == [200] * 3
        upload = httpx.post(served.url + "/predict", content=png() + bytes(UPLOAD_BYTES), timeout=DEADLINE_S)
        assert upload.status_code == 200, upload.text
        assert not load.done(), "they waited until the load had ended"


@pytest.mark.usefixtures("many_descriptors")
def test_a_crowd_that_cannot_be_refused_in_time_does_not_keep_the_newest_from_answers(
    serve: Servers, tmp_path: Path, require: Callable[[str], str]
) -> None:
    """All that waits would be read too late, if the oldest always came first."""
    require("wrk")
    served = serve("--workers", "1", "--api-processes", "1", "--target-latency", str(TARGET_S)).ready()

    def count() -> tuple[float, float]:
        metrics = served.metrics()
        return metrics.get(ANSWERED, 0), metrics.get(REFUSED, 0)

    with ThreadPoolExecutor(1) as pool:
        request = Upload(png(), "image/png")
        load = pool.submit(wrk.drive, served.url + "/predict", request, CROWD, SECONDS, tmp_path)
        until(lambda: load.done() or count()[1] > CROWD, "the crowd to be too late")
        answered, refused = count()
        until(lambda: load.done() or count()[1] > refused + CROWD / 2, "half of it to be refused once more")
        assert count()[1] > refused + CROWD / 2, "the crowd has never been too late"
        assert count()[0] > answered + CROWD / 4
