"""Copying a repository from a store into the cache: the newest versions, and of each the files of its format alone."""

import hashlib
from contextlib import suppress
from dataclasses import dataclass

from models.artifact.artifact import (
    FILES,
    LARGEST_FILE,
    LARGEST_SUMS,
    MODEL_FILE,
    MOST_SIGNATURE_BYTES,
    SIGNATURE_FILE,
    SUMS_FILE,
    is_model_name,
    is_version,
    parse_sums,
)
from models.artifact.metadata import ArtifactError
from service.remote.cache import Cache
from service.remote.errors import AccessDenied, NothingKept, NothingThere, StoreError, Unreachable
from service.remote.store import RemoteStore

VERSIONS = 2
"""How many versions of a model are copied: the one to serve, and the one to go back to."""
MOST_MODELS = 1_000


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """A version in a store.

    Attributes:
        path: its folder below the URL.

    """

    path: str
    model: str
    version: str


def mirror(url: str, cache: Cache) -> list[str]:
    """Copy what the URL names, a repository, a model or a version; what was left out, with the reasons.

    A StoreError is about all of it. A version that cannot be had stays as it was copied before, if it was.
    """
    store = RemoteStore(url)
    with cache.locked():
        versions, problems = _list_versions(store)
        if not versions:
            expected = "expected <model>/<version>/model.onnx, and a web server must list its folders"
            raise StoreError("; ".join([f"no models in {url}: {expected}", *problems]))
        for version in versions:
            try:
                cache.link(version.model, version.version, _copy_files(store, version.path, cache))
            except (Unreachable, NothingKept):
                raise
            except (StoreError, ArtifactError) as error:
                problems.append(f"{version.model}/{version.version} is not copied: {error}")
        if not any(cache.holds(version.model, version.version) for version in versions):
            raise StoreError("; ".join(problems))
        cache.keep_only((version.model, version.version) for version in versions)
    return problems


def _list_versions(store: RemoteStore) -> tuple[list[RemoteVersion], list[str]]:
    """What there is to copy, and what is no model."""
    above, _, last = store.url.rpartition("/")
    if is_version(last):
        return [RemoteVersion("", _model_name(above), last)], []
    folders = [name for name in store.folders() if not name.startswith(".")]
    if folders and all(map(is_version, folders)):
        return [RemoteVersion(version, _model_name(store.url), version) for version in _newest(folders)], []
    if len(folders) > MOST_MODELS:
        raise StoreError(f"{store.url} has {len(folders)} folders, more than {MOST_MODELS}: name a folder of models")
    found, problems = [], []
    for model in folders:
        versions = _newest(store.folders(model)) if is_model_name(model) else []
        found += [RemoteVersion(f"{model}/{version}", model, version) for version in versions]
        if not versions:
            problems.append(f"{model!r} is no model: no name of one, or no version in it")
    return found, problems


def _model_name(url: str) -> str:
    """The model that a URL ends with, without a revision of the hub; StoreError."""
    name = url.rpartition("/")[2].partition("@")[0]
    if not is_model_name(name):
        raise StoreError(f"{url} does not end with the name of a model: give <repository>/<model>/<version>")
    return name


def _newest(folders: list[str]) -> list[str]:
    return sorted(filter(is_version, folders), key=int, reverse=True)[:VERSIONS]


def _copy_files(store: RemoteStore, path: str, cache: Cache) -> dict[str, str]:
    """Digest of each file of a version, all of which the cache has then; StoreError or ArtifactError."""
    sums = store.read(_below(path, SUMS_FILE), LARGEST_SUMS)
    files = parse_sums(sums)
    if strange := sorted(files.keys() - set(FILES)):
        raise ArtifactError(
            f"{SUMS_FILE} lists {', '.join(strange)}: nothing is copied but {', '.join(FILES)}; list these alone"
        )
    if MODEL_FILE not in files:
        raise ArtifactError(f"{SUMS_FILE} lists no {MODEL_FILE}; make it with `sha256sum * > {SUMS_FILE}`")
    for name, digest in files.items():
        if not cache.has(digest):
            _copy_file(store, _below(path, name), digest, cache)
    files[SUMS_FILE] = _keep(sums, cache)
    with suppress(NothingThere, AccessDenied):  # stores that do not let us list tell so of a file that is not there
        files[SIGNATURE_FILE] = _keep(store.read(_below(path, SIGNATURE_FILE), MOST_SIGNATURE_BYTES), cache)
    return files


def _keep(content: bytes, cache: Cache) -> str:
    """Keep a small file; its digest. What the cache has stays as it is, and with it the folders that link to it."""
    digest = hashlib.sha256(content).hexdigest()
    return digest if cache.has(digest) else cache.add([content])


def _copy_file(store: RemoteStore, path: str, digest: str, cache: Cache) -> None:
    found = store.save(path, LARGEST_FILE, cache.add)
    if found != digest:
        raise ArtifactError(f"{path} has SHA-256 {found}, {SUMS_FILE} says {digest}; copy the files to the store again")


def _below(path: str, name: str) -> str:
    return f"{path}/{name}" if path else name
