"""The whole path: a JPEG over HTTP, decoded on the CPU, classified on the GPU; and the digit on many cores."""

from pathlib import Path

from benchmarks.gpu.networks import released
from benchmarks.gpu.report import RowWriter
from benchmarks.gpu.trip import Trip
from benchmarks.serving import wrk
from benchmarks.serving.photo import photo_jpeg
from benchmarks.serving.processes import Meter
from benchmarks.serving.servers import Running, ServerSpec, started
from benchmarks.serving.workloads import Workload, mnist_workload, multipart, raw
from benchmarks.surroundings import ROOT
from models.machine.cores import usable_cores

_ROW_S = 40  # a server's start and its load


def measure(trip: Trip) -> None:
    """Write gpu-serving.json."""
    report = RowWriter(
        trip.output, "serving", "wrk on the same cores; the synthetic photograph of 500 x 375 pixels and 100 kB"
    )
    connections = (2,) if trip.quick else (1, 8, 32, 128, 512)
    artifact = released(trip.networks[0], trip.work)
    repository = trip.work / artifact.name
    photo = Workload("photo", photo_jpeg(), "image/jpeg", repository, artifact, 5, connections, load_s=_load_s(trip))
    _visit_all(trip, report, photo, [*_ours(trip), *_peers(trip)])


def measure_scaling(trip: Trip) -> None:
    """Write gpu-scaling.json."""
    report = RowWriter(
        trip.output, "scaling", "wrk on the same cores; real digits behind nginx, mnist-residual, CPU alone"
    )
    digit = mnist_workload(ROOT / "models" / "zoo", trip.work / "scaling")
    numbers = (1, 2) if trip.quick else (1, 2, 4, 8)
    servers = [_spec("scaling", "--device", "cpu", "--api-processes", str(number)) for number in numbers]
    _visit_all(trip, report, digit, servers)


def _ours(trip: Trip) -> list[ServerSpec]:
    many = str(max(2, usable_cores() // 2))
    on = ("--device", trip.device, *(() if trip.cuda else ("--workers", "1")))
    if trip.quick:
        return [_spec("serving", *on)]
    return [
        _spec("serving", *on, "--precision", "fastest", "--api-processes", many),
        _spec("serving", *on, "--api-processes", many),
        _spec("serving", *on, "--precision", "fastest", "--api-processes", many, "--workers", "1"),
        _spec("serving", *on, "--precision", "fastest"),
    ]


def _peers(trip: Trip) -> list[ServerSpec]:
    """LitServe with PyTorch, as its documentation has it."""
    module, device = "benchmarks.gpu.stock_litserve", ("PEER_DEVICE", trip.device)
    return [
        ServerSpec(" ".join(["litserve", *more]).replace("--", ""), module, more, "/predict", multipart, (device,))
        for more in ((), ("--workers", "4", "--api-servers", "4"))[: 1 if trip.quick else 2]
    ]


def _spec(subject: str, *arguments: str) -> ServerSpec:
    name = " ".join([subject, *arguments]).replace("--", "")
    return ServerSpec(name, "service", (*arguments, "--log-format", "json"), "/predict", raw)


def _visit_all(trip: Trip, report: RowWriter, workload: Workload, servers: list[ServerSpec]) -> None:
    for server in servers:
        if not trip.has(_ROW_S):
            report.add("serving", server=server.name, failed="no time left")
            continue
        try:
            _visit(trip, report, workload, server)
        except Exception as error:
            report.fail("serving", error, server=server.name)


def _visit(trip: Trip, report: RowWriter, workload: Workload, server: ServerSpec) -> None:
    with started(server, workload, trip.work) as (running, seconds):
        report.add("started", server=server.name, seconds=seconds, label=running.ask())
        wrk.drive(running.url, running.upload(), 8, 1, trip.work)
        for connections in (2,) if trip.quick else workload.connections:
            row = _load(running, connections, _load_s(trip), trip.work)
            report.add("serving", server=server.name, connections=connections, **row)


def _load(running: Running, connections: int, seconds: int, folder: Path) -> dict[str, float]:
    meter = Meter(running.session)
    if running.workload.traffic:
        seen = wrk.replay(running.url, running.messages(), connections, seconds, folder)
    else:
        seen = wrk.drive(running.url, running.upload(), connections, seconds, folder)
    cores = meter.read().cpu_s / seen.seconds
    return {
        "per_s": seen.per_second,
        "p50_ms": seen.p50_ms,
        "p99_ms": seen.p99_ms,
        "failures": seen.failed,
        "server_cores": cores,
        "wrk_cores": seen.cpu_s / seen.seconds,
    }


def _load_s(trip: Trip) -> int:
    return 1 if trip.quick else 4
