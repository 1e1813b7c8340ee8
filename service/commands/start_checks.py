"""What keeps a server from starting although each of its settings is right by itself."""

import resource
from collections.abc import Iterable

from models.machine.memory import usable_memory
from service.auth.guard import Guard
from service.catalog.catalog import Catalog
from service.config.settings import SettingError, Settings
from service.policy import API_DESCRIPTORS, LEAST_DESCRIPTORS, WORKER_DESCRIPTORS
from service.supervisor.model_source import least_memory


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


def check_root_path(settings: Settings, routes: Iterable[str]) -> None:
    """Raise SettingError if a route begins as the prefix does: taken away, it would leave what is asked for nowhere."""
    prefix = settings.root_path
    if found := next((route for route in routes if prefix and _begins_as(route, prefix)), None):
        raise SettingError(f"--root-path {prefix} is how the server's own {found} begins: publish it under another")


def _begins_as(route: str, prefix: str) -> bool:
    parts, given = route.split("/"), prefix.split("/")
    pairs = zip(parts, given, strict=False)
    return len(parts) >= len(given) and all(part == name or part.startswith("{") for part, name in pairs)


def check_batching(settings: Settings, catalog: Catalog) -> None:
    """Raise SettingError if --batching names a model that is not there, which would have no effect."""
    names = {artifact.name for artifact in catalog.artifacts} | {name for name, _ in catalog.failed}
    if unknown := settings.batching.keys() - names:
        raise SettingError(
            f"--batching is for {', '.join(sorted(unknown))}, but the models are {', '.join(sorted(names))}"
        )
