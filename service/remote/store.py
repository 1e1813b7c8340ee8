"""Folders and files below one URL, whatever store it is in; each error says what was found and what to do."""

import errno
import re
import time
from collections.abc import Callable, Iterator
from json import JSONDecodeError
from typing import Any, TypeVar

from service.catalog.repository_place import EXTRAS, scheme_of
from service.remote.errors import AccessDenied, NothingKept, NothingThere, StoreError, Unreachable

CONNECT_S, READ_S = 5, 30
"""Longest time to connect, and without a byte, in seconds."""
RETRY_WAITS_S = (0.5, 2.0)
"""Time before each further try of what may pass, in seconds."""
CHUNK_BYTES = 1 << 20

_SECRETS = re.compile(r"(?<=://)[^\s/?'\"]*@|\?[^\s?='\"]+=[^\s'\"]*")
"""In an address a name and password, and what is behind its path: stores send on to addresses that are signed there."""

_T = TypeVar("_T")


class RemoteStore:
    """What is below one URL, read through fsspec."""

    def __init__(self, url: str) -> None:
        self.url, scheme = url, scheme_of(url)
        self._waits_s = () if scheme == "gs" else RETRY_WAITS_S  # Google's library tries six times by itself
        try:
            import fsspec

            self._files, self._root = fsspec.url_to_fs(url, skip_instance_cache=True, **_options(scheme))
            if scheme == "s3":
                self._files.s3.meta.events.register_first("needs-retry.s3", _check_s3_answer)
        except ImportError as error:
            raise StoreError(
                f"{url} needs what is not installed ({error}): pip install 'resnet-serve[{EXTRAS[scheme]}]'"
            ) from error
        except Exception as error:  # of a library for each store
            raise self._explain("", error) from error

    def folders(self, path: str = "") -> list[str]:
        """Names of the folders in one, sorted; StoreError."""
        folder = self._join(path)
        entries = self._retry(path, lambda: self._files.ls(folder, detail=True))
        names = (str(entry["name"]).rstrip("/") for entry in entries if entry["type"] == "directory")
        # A page of links may lead anywhere else.
        return sorted({name[len(folder) + 1 :] for name in names if name.startswith(f"{folder}/")})

    def read(self, path: str, most_bytes: int) -> bytes:
        """A file whole; StoreError, also if it is larger."""
        return self._retry(path, lambda: b"".join(self._chunks(path, most_bytes)))

    def save(self, path: str, most_bytes: int, write: Callable[[Iterator[bytes]], _T]) -> _T:
        """What `write` makes of a file's parts, from the first one again after each failure; StoreError."""
        return self._retry(path, lambda: write(self._chunks(path, most_bytes)))

    def _chunks(self, path: str, most_bytes: int) -> Iterator[bytes]:
        total = 0
        with self._files.open(self._join(path), "rb", block_size=8 * CHUNK_BYTES, cache_type="readahead") as file:
            while chunk := file.read(CHUNK_BYTES):
                if (total := total + len(chunk)) > most_bytes:
                    raise StoreError(f"{self._name(path)} is larger than {most_bytes} bytes, which no such file may be")
                yield chunk
                if len(chunk) < CHUNK_BYTES and file.size and total < file.size:  # fsspec would go on, bit by bit
                    raise OSError(f"it ended after {total} of its {file.size} bytes")

    def _join(self, path: str) -> str:
        return f"{self._root.rstrip('/')}/{path}".rstrip("/")

    def _name(self, path: str) -> str:
        return f"{self.url}/{path}".rstrip("/")

    def _retry(self, path: str, action: Callable[[], _T]) -> _T:
        """What the action gives; what may pass is tried again, a bounded number of times."""
        for wait_s in (*self._waits_s, None):
            try:
                return action()
            except StoreError:
                raise
            except Exception as error:  # of a library for each store
                failure = self._explain(path, error)
                if wait_s is None or not isinstance(failure, Unreachable):
                    raise failure from error
                time.sleep(wait_s)
        raise AssertionError("the last try returns or raises")

    def _explain(self, path: str, error: Exception) -> StoreError:
        """The libraries have no errors in common but those of files, and an HTTP status, in front or behind."""
        name = self._name(path)
        chain = [error, error.__cause__] if isinstance(error.__cause__, Exception) else [error]
        status = next(filter(None, map(_status, chain)), None)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
            return NothingKept(f"{name} cannot be kept: {error.strerror}; make room, or give another --cache-dir")
        if status in (401, 403) or any(map(_is_denial, chain)):
            return AccessDenied(
                f"no permission to read {name} ({_words(chain[-1])}): give this process credentials that may"
            )
        if status in (404, 410) or all(isinstance(one, FileNotFoundError) for one in chain):
            said = _words(error)
            reason = "" if name.endswith(said) else f" ({said})"
            return NothingThere(f"{name} is not there{reason}: check its parts, and whether you may read it")
        return Unreachable(f"{name} cannot be reached ({_words(chain[-1])}): check the network and the store")


def _options(scheme: str) -> dict[str, Any]:
    """What each library is told of time; credentials and addresses it finds where its own tools look for them."""
    if scheme == "s3":
        return {"config_kwargs": {"connect_timeout": CONNECT_S, "read_timeout": READ_S, "retries": {"max_attempts": 1}}}
    if scheme == "hf":
        return {}
    import aiohttp

    timeout = aiohttp.ClientTimeout(connect=CONNECT_S, sock_read=READ_S)
    if scheme == "gs":
        return {"requests_timeout": timeout}
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}  # proxies, and keys from ~/.netrc


def _check_s3_answer(response: tuple[Any, dict[str, Any]] | None, **context: object) -> None:
    """Raise OSError where botocore would take the page of a web server for an empty list, or ask without end."""
    if response is None or response[0] is None:
        return
    (answer, parsed), operation = response, str(context["event_name"]).rpartition(".")[2]
    status, headers = answer.status_code, answer.headers
    if operation == "HeadBucket" and status in (301, 302, 307) and "x-amz-bucket-region" not in headers:
        raise OSError(
            f"it answers {status} and names no region: set AWS_ENDPOINT_URL, or AWS_REGION, to where the bucket is"
        )
    if operation.startswith("List") and parsed.keys() == {"ResponseMetadata"}:
        raise OSError(f"it answers {status} with {headers.get('content-type', 'nothing')}, which is no answer of S3")


def _status(error: Exception) -> int | None:
    """The HTTP status that it tells of, if any."""
    response = getattr(error, "response", None)
    if isinstance(response, dict):  # of botocore
        status = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        status = getattr(error, "status", None) or getattr(error, "code", getattr(response, "status_code", None))
    return status if isinstance(status, int) else None


def _is_denial(error: Exception) -> bool:
    """Whether the store denied it; of a 403 Google's library says no more than a word."""
    return (
        isinstance(error, PermissionError)
        or "Credentials" in type(error).__name__
        or (isinstance(error, OSError) and str(error).startswith("Forbidden: "))
    )


def _words(error: Exception) -> str:
    """What it says, in one line: the reason is often in the second."""
    if isinstance(error, JSONDecodeError):
        return f"it answers what is no JSON, {' '.join(error.doc.split())[:60]!r}"
    if isinstance(error, LookupError | TypeError | AttributeError):  # what the library looks for is not in it
        return f"its answer is none of such a store, {type(error).__name__}: {error}"
    if getattr(error, "message", None) == "":  # of aiohttp, whose text has no word of what happened then
        return type(error).__name__
    said = " ".join(_SECRETS.sub("", getattr(error, "strerror", None) or str(error)).split())
    return said[:300] or type(error).__name__
