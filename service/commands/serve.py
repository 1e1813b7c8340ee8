"""Starting the server: from settings to processes."""

import structlog

from models.artifact.artifact import Artifact
from models.engines.backend import AUTO, AUTO_REASON, candidates
from models.machine.cores import usable_cores
from models.machine.devices import choose_device
from models.machine.memory import usable_memory
from service.auth.guard import Guard, make_guard
from service.auth.tls import make_tls
from service.http.acceptor import allow_descriptors
from service.http.route_access import MAIN
from service.http.routes import ROUTES
from service.ipc.channels import Channels
from service.logs import configure_logs
from service.metrics.metrics import Metrics, metered_models
from service.policy import SECOND_API_PROCESS_CORES, WORKERS_PER_GPU
from service.remote.fetch import fetch
from service.repository import Catalog, read_repository, signed_by
from service.settings import SettingError, Settings, fit_together
from service.shadow_version import add_shadow
from service.supervisor.litserve import LitServeLauncher
from service.supervisor.model_set import ModelSet
from service.supervisor.model_source import ModelSource, least_memory
from service.supervisor.supervisor import Supervisor
from service.worker.trial import Selector
from service.worker.warmup import LoadOptions

log = structlog.get_logger()


def serve(settings: Settings) -> int:
    """Serve until stopped; the exit code.

    A SettingError, RepositoryError, DeviceError, EngineError or OSError prevents the start.
    """
    settings = fit_together(settings)
    configure_logs(settings.log_format, settings.log_level)
    allow_descriptors()
    accelerator, devices = choose_device(settings.device)
    check_budget(settings, accelerator)
    ways = candidates(settings.engine, accelerator, settings.precision, settings.compile)
    check_origin = signed_by(settings.require_signature)
    repository = fetch(settings.model_repository, settings.cache_dir, settings.fetch_timeout)
    for problem in repository.problems:
        log.error("repository", place=settings.model_repository, reason=problem)
    cores = usable_cores()
    per_device = settings.workers or (cores if accelerator == "cpu" else WORKERS_PER_GPU)
    load = LoadOptions(
        settings.engine,
        settings.precision,
        settings.compile,
        max(1, cores // (devices * per_device)),
        {},
        settings.max_accuracy_loss,
    )
    device = "cpu" if accelerator == "cpu" else "cuda:0"
    selector = Selector(device, load, settings.start_timeout)
    selection, try_version = settings.selection, selector.try_version
    catalog = read_repository(repository.folder, settings.default_model, try_version, check_origin, selection)
    fallbacks = catalog.fallbacks()
    catalog = add_shadow(catalog, repository.folder, selection, try_version, check_origin)
    for (name, version), reason in catalog.failed.items():
        log.error("model failed", model=name, version=version, reason=reason)
    for name, versions in fallbacks.items():
        served = catalog.artifacts[catalog.find(name, None)].version
        log.error("an older version is served", model=name, version=served, instead_of=versions)
    check_batching(settings, catalog)
    catalog = catalog.keeping(
        weights=any(way.engine == "torch" for way in ways), int8=any(way.precision == "int8" for way in ways)
    )
    if settings.engine == "auto" and len({way.engine for way in ways}) == 1:
        log.info("engine chosen", engine=AUTO, why=AUTO_REASON)
    check_memory(settings, devices * per_device, catalog)
    settings = share_machine(settings, cores)
    channels = make_channels(settings, catalog.artifacts, workers=devices * per_device)
    metrics = Metrics(
        list(metered_models(catalog, settings.class_metrics).values()),
        ROUTES,
        channels.workers,
        settings.api_processes,
        settings.max_request_timeout,
    )
    metrics.attach(metrics.supervisor_row)
    metrics.model_load_failures.inc(by=len(catalog.failed))
    metrics.repository_problems.set(len(repository.problems))
    guard, tls = make_guard(settings, settings.api_processes), make_tls(settings)
    check_admin(settings, guard)
    server = LitServeLauncher(settings, channels, metrics, load, accelerator, devices, guard, tls)
    main = server.urls[MAIN]
    inside = {area: url for area, url in server.urls.items() if url != main}
    log.info("listening", url=main, models=len(catalog.artifacts), **inside)
    models = ModelSet.of(catalog, selector.choices(catalog.artifacts))
    del catalog  # and so the copies of the files
    source = ModelSource(settings, channels, metrics, device, load, ways)
    return Supervisor(server, channels, models, source, metrics, settings, guard, tls).run()


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
