"""Starting the server: from settings to processes."""

import resource
from pathlib import Path

import structlog

from models.artifact.artifact import Artifact
from models.engines.backend import AUTO, AUTO_REASON
from models.machine.cores import usable_cores
from models.machine.memory import usable_memory
from service.auth.guard import Guard, make_guard
from service.auth.tls import make_tls
from service.catalog.catalog import Catalog
from service.catalog.repository import Repository, signed_by
from service.catalog.shadow_version import add_shadow
from service.config.settings import SettingError, Settings, fit_together
from service.http.acceptor import allow_descriptors
from service.http.ports import MAIN
from service.ipc.channels import Channels
from service.metrics.metered_model import metered_models
from service.metrics.metrics import Metrics
from service.policy import API_DESCRIPTORS, LEAST_DESCRIPTORS, SECOND_API_PROCESS_CORES, WORKER_DESCRIPTORS
from service.pools.litserve import LitServeLauncher
from service.pools.model_set import ModelSet
from service.pools.placement import Placement
from service.process.logs import configure_logs
from service.routes.routes import ROUTES
from service.supervisor.credentials import note_dates
from service.supervisor.model_source import ModelSource, fetch_models, least_memory
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
    allow_descriptors()
    cores = usable_cores()
    placement = Placement.of(settings, cores)
    check_budget(settings, placement.accelerator)
    selector = Selector(placement.device, placement.load, settings.start_timeout)
    fetched = fetch_models(settings)
    served = Fingerprint()
    if settings.poll_repository:  # before it is read, so what comes meanwhile is new
        served = fingerprint(settings.model_repository, fetched.folder)
    catalog = read_models(settings, fetched.folder, placement, selector)
    check_memory(settings, placement.workers, catalog)
    settings = share_machine(settings, cores)
    check_descriptors(placement.workers, settings.api_processes)
    channels = make_channels(settings, catalog.artifacts, placement.workers)
    metrics = Metrics(
        list(metered_models(catalog, settings.class_metrics).values()),
        ROUTES,
        channels.workers,
        settings.api_processes,
        settings.max_request_timeout,
    )
    metrics.attach(metrics.supervisor_row)
    metrics.model_load_failures.inc(by=len(catalog.failed))
    metrics.repository_problems.set(len(fetched.problems))
    guard, tls = make_guard(settings, settings.api_processes), make_tls(settings)
    check_admin(settings, guard)
    if tls:
        note_dates(tls, metrics)
    server = LitServeLauncher(settings, channels, metrics, placement, guard, tls)
    main = server.urls[MAIN]
    inside = {area: url for area, url in server.urls.items() if url != main}
    log.info("listening", url=main, models=len(catalog.artifacts), **inside)
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


def check_budget(settings: Settings, accelerator: str) -> None:
    """Raise SettingError if the memory that models take is not what is measured."""
    if settings.memory_budget and accelerator != "cpu":
        raise SettingError("--memory-budget counts the memory of workers on a CPU: give --device cpu, or leave it out")


def check_memory(settings: Settings, workers: int, catalog: Catalog) -> None:
    """Raise SettingError if the memory is certainly too little: the workers would be killed again and again."""
    least = least_memory(settings, workers, catalog)
    if (usable := usable_memory()) < least:
        raise SettingError(
            f"there are {usable >> 20} MiB of memory, and {workers} workers with these models need more than "
            f"{least >> 20}: allow the server more, or start fewer with --workers"
        )


def check_descriptors(workers: int, api_processes: int) -> None:
    """Raise SettingError if no process may have as many files open as one needs before its first connection."""
    least = LEAST_DESCRIPTORS + workers * WORKER_DESCRIPTORS + api_processes * API_DESCRIPTORS
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed <= least:
        raise SettingError(
            f"a process may have {allowed} files open, and with {workers} workers and {api_processes} API processes "
            f"needs more than {least}: raise the hard limit (`ulimit -n`, LimitNOFILE), or start fewer"
        )


def check_admin(settings: Settings, guard: Guard | None) -> None:
    """Raise SettingError if anyone, or no one at all, could change the models."""
    if settings.admin_api and not (guard and guard.has_key_for("admin")):
        raise SettingError(
            "--admin-api needs an API key with the scope admin: make one with `resnet-serve key NAME --scopes admin`, "
            "and name its file with --api-key-file"
        )


def check_batching(settings: Settings, catalog: Catalog) -> None:
    """Raise SettingError if --batching names a model that is not there, which would have no effect."""
    names = {artifact.name for artifact in catalog.artifacts} | {name for name, _ in catalog.failed}
    if unknown := settings.batching.keys() - names:
        raise SettingError(
            f"--batching is for {', '.join(sorted(unknown))}, but the models are {', '.join(sorted(names))}"
        )


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
