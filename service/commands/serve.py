"""Starting the server: from settings to processes."""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import structlog

from models.artifact.artifact import Artifact
from models.engines.backend import AUTO, AUTO_REASON
from models.machine.cores import usable_cores
from models.machine.memory import usable_memory
from service.auth.guard import make_guard
from service.auth.tls import make_tls
from service.catalog.catalog import Catalog
from service.catalog.repository import Repository, signed_by
from service.catalog.shadow_version import add_shadow
from service.commands.start_checks import (
    check_admin,
    check_batching,
    check_budget,
    check_descriptors,
    check_memory,
    check_root_path,
)
from service.config.settings import Settings, fit_together
from service.http.acceptor import allow_descriptors
from service.http.ports import MAIN
from service.ipc.channels import Channels
from service.metrics.metered_model import metered_models
from service.metrics.metrics import Metrics
from service.policy import SECOND_API_PROCESS_CORES
from service.pools.litserve import LitServeLauncher
from service.pools.model_set import ModelSet
from service.pools.placement import Placement
from service.process.logs import configure_logs
from service.routes.routes import ROUTES
from service.supervisor.credentials import note_dates
from service.supervisor.model_source import ModelSource, fetch_models
from service.supervisor.repository_watch import Fingerprint, fingerprint
from service.supervisor.supervisor import Supervisor
from service.worker.trial import Selector

log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve until stopped; the exit code.

    A SettingError, RepositoryError, DeviceError, EngineError or OSError prevents the start.
    """
    settings = fit_together(settings)
    configure_logs(settings.log_format, settings.log_level)
    check_root_path(settings, ROUTES)
    allow_descriptors()
    cores = usable_cores()
    placement = Placement.of(settings, cores)
    check_budget(settings, placement.accelerator)
    selector = Selector(placement.device, placement.load, settings.start_timeout)
    fetched = fetch_models(settings)
    # before it is read, so that what comes meanwhile is new
    served = fingerprint(settings.model_repository, fetched.folder) if settings.poll_repository else Fingerprint()
    catalog = read_models(settings, fetched.folder, placement, selector)
    check_memory(settings, placement.workers, catalog)
    settings = share_machine(settings, cores)
    check_descriptors(placement.workers, settings.api_processes)
    channels = make_channels(settings, catalog.artifacts, placement.workers)
    metrics = make_metrics(settings, channels, catalog, problems=len(fetched.problems))
    guard, tls = make_guard(settings, settings.api_processes), make_tls(settings)
    check_admin(settings, guard)
    if tls:
        note_dates(tls, metrics)
    server = LitServeLauncher(settings, channels, metrics, placement, guard, tls)
    _log_urls(server.urls, models=len(catalog.artifacts), when_ready=settings.listen_when_ready)
    models = ModelSet.of(catalog, selector.choices(catalog.artifacts))
    del catalog  # and so the copies of the files
    source = ModelSource(settings, channels, metrics, placement)
    return Supervisor(server, channels, models, source, served, metrics, settings, guard, tls).run()


def read_models(settings: Settings, folder: Path, placement: Placement, selector: Selector) -> Catalog:
    """What is to be served; RepositoryError if nothing can be."""
    check_origin = signed_by(settings.require_signature)
    repository = Repository(folder, selector.try_version, check_origin)
    catalog = repository.read(settings.default_model, settings.selection)
    fallbacks = catalog.fallbacks()
    catalog = add_shadow(catalog, repository, settings.selection)
    for (name, version), reason in catalog.failed.items():
        log.error("model failed", model=name, version=version, reason=reason)
    for name, versions in fallbacks.items():
        served = catalog.artifacts[catalog.find(name, None)].version
        log.error("an older version is served", model=name, version=served, instead_of=versions)
    check_batching(settings, catalog)
    if settings.engine == "auto" and len({way.engine for way in placement.ways}) == 1:
        log.info("engine chosen", engine=AUTO, why=AUTO_REASON)
    return catalog.keeping(weights=placement.needs_weights, int8=placement.needs_int8)


def share_machine(settings: Settings, cores: int) -> Settings:
    """The settings with as many API processes, decoding threads and memory for them as the machine is good for."""
    processes = settings.api_processes or (1 if cores < SECOND_API_PROCESS_CORES else 2)
    threads = settings.decode_threads or max(1, cores // processes)
    memory = settings.decode_memory or usable_memory() // 4 // processes
    shares = {"api_processes": processes, "decode_threads": threads, "decode_memory": memory}
    return settings.model_copy(update=shares)


def make_channels(settings: Settings, artifacts: tuple[Artifact, ...], workers: int) -> Channels:
    """Slots as large as the largest model needs, pipes and the shared state."""
    shapes = [artifact.input_shape for artifact in artifacts]
    return Channels(
        workers,
        settings.api_processes,
        settings.queue_capacity,
        input_bytes=max(settings.largest_input, *(height * width * channels for height, width, channels in shapes)),
        classes=max(settings.most_classes, *(artifact.classes for artifact in artifacts)),
    )


def make_metrics(settings: Settings, channels: Channels, catalog: Catalog, *, problems: int) -> Metrics:
    """All metrics, which begin with what could not be read; `problems`: how much the store of models could not give."""
    metrics = Metrics(
        list(metered_models(catalog, settings.class_metrics).values()),
        ROUTES,
        channels.workers,
        settings.api_processes,
        settings.max_request_timeout,
    )
    metrics.attach(metrics.supervisor_row)
    metrics.model_load_failures.inc(by=len(catalog.failed))
    metrics.repository_problems.set(problems)
    return metrics


def is_compiled() -> bool:
    """Whether the modules that every request passes were compiled when the server was installed (`setup.py`)."""
    spec = find_spec("service.prediction.request")
    return spec is not None and not str(spec.origin).endswith(".py")


def _log_urls(urls: Mapping[str, str], *, models: int, when_ready: bool) -> None:
    """Tell where the server listens, perhaps only once it is ready, and which areas have ports of their own."""
    main = urls[MAIN]
    inside = {area: url for area, url in urls.items() if url != main}
    waits = {"when_ready": True} if when_ready else {}
    log.info("listening", url=main, models=models, compiled=is_compiled(), **waits, **inside)
