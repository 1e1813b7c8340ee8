"""Real stores on this machine that give out a folder: S3, Google's, the hub of Hugging Face, a web server."""

import json
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit

import boto3
import httpx
from gcp_storage_emulator.server import create_server
from moto.server import ThreadedMotoServer

from tests.service.served import free_port

KEYS = {"AWS_ACCESS_KEY_ID": "tester", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}


@dataclass
class RunningStore:
    """A store that gives out a folder.

    Attributes:
        url: of that folder.
        settings: environment variables by which the libraries find the store.
        requests: paths that were asked for, with how often, where the store tells.
        refusals: statuses to answer with, by the end of the path.
        login: name and password that it asks for, if any.
        open: it answers while this is set.

    """

    url: str
    settings: Mapping[str, str] = field(default_factory=dict)
    requests: Counter[str] = field(default_factory=Counter)
    refusals: dict[str, int] = field(default_factory=dict)
    login: tuple[str, str] | None = None
    open: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.open.set()


@contextmanager
def s3(folder: Path) -> Iterator[RunningStore]:
    """moto's server, with the files of a folder below s3://models/released, and for everyone below s3://models/public."""
    port = free_port()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    endpoint = f"http://127.0.0.1:{port}"
    client = boto3.client(
        "s3",
        endpoint_url=endpoint,
        aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        region_name=KEYS["AWS_DEFAULT_REGION"],
    )
    client.create_bucket(Bucket="models")
    for file in files(folder):
        content = (folder / file).read_bytes()
        client.put_object(Bucket="models", Key=f"released/{file}", Body=content)
        client.put_object(Bucket="models", Key=f"public/{file}", Body=content, ACL="public-read")
    try:
        yield RunningStore("s3://models/released", KEYS | {"AWS_ENDPOINT_URL": endpoint})
    finally:
        client.close()
        server.stop()


@contextmanager
def gs(folder: Path) -> Iterator[RunningStore]:
    """An emulator of Google Cloud Storage, with the files of a folder below gs://models/released."""
    port = free_port()
    server = create_server("127.0.0.1", port, in_memory=True, default_bucket="models")
    server.start()
    endpoint = f"http://127.0.0.1:{port}"
    for file in files(folder):
        url = f"{endpoint}/upload/storage/v1/b/models/o?uploadType=media&name={quote(f'released/{file}', safe='')}"
        httpx.post(url, content=(folder / file).read_bytes()).raise_for_status()
    try:
        yield RunningStore("gs://models/released", {"STORAGE_EMULATOR_HOST": endpoint, "FSSPEC_GS_TOKEN": "anon"})
    finally:
        server.stop()


@contextmanager
def web(folder: Path) -> Iterator[RunningStore]:
    """Python's own web server, which lists folders."""
    store = RunningStore("")
    with serving(partial(WebHandler, store, directory=str(folder))) as address:
        store.url = address
        yield store


@contextmanager
def hub(folder: Path) -> Iterator[RunningStore]:
    """As much of the hub's API as its own library asks for when it reads the repository team/models."""
    store = RunningStore("hf://team/models")
    with serving(partial(HubHandler, store, directory=str(folder))) as address:
        store.settings = {"HF_ENDPOINT": address}
        yield store


STORES = {"s3": s3, "gs": gs, "web": web, "hub": hub}


def files(folder: Path) -> list[Path]:
    """Every file below a folder, by its path there."""
    return [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]


@contextmanager
def serving(handler: partial[SimpleHTTPRequestHandler]) -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def basic(name: str, password: str) -> str:
    """The value of the field Authorization (RFC 7617)."""
    return "Basic " + b64encode(f"{name}:{password}".encode()).decode()


class WebHandler(SimpleHTTPRequestHandler):
    """Files and folders, but for what is refused."""

    def __init__(self, store: RunningStore, *arguments: object, directory: str) -> None:
        self.store = store
        super().__init__(*arguments, directory=directory)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.store.requests[path] += 1
        self.store.open.wait()
        if self.store.login and self.headers["Authorization"] != basic(*self.store.login):
            self.send_error(HTTPStatus.UNAUTHORIZED)
        elif status := next((status for end, status in self.store.refusals.items() if path.endswith(end)), None):
            self.send_error(status)
        else:
            self.answer(path)

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, _path: str) -> None:
        if self.command == "HEAD":
            super().do_HEAD()
        else:
            super().do_GET()

    def log_message(self, *_: object) -> None:
        """The tests' output is not the place for it."""


class HubHandler(WebHandler):
    """`/api/models/...` tells of the repository, `/team/models/resolve/REVISION/...` has its files."""

    def answer(self, path: str) -> None:
        match path.strip("/").split("/"):
            case ["api", "models", "team", "models", "tree", _, *below]:
                self.tell([self.entry(one) for one in sorted(self.place(below).iterdir())])
            case ["api", "models", "team", "models", *_]:
                self.tell({"id": "team/models", "sha": "0" * 40, "siblings": []})
            case ["team", "models", "resolve", _, *below]:
                self.path = "/" + "/".join(below)
                super().answer(self.path)
            case _:
                self.tell({"error": "Repository not found"}, HTTPStatus.NOT_FOUND, "RepoNotFound")

    def place(self, below: list[str]) -> Path:
        return Path(self.directory, *below)

    def entry(self, path: Path) -> dict[str, object]:
        kind, size = ("directory", 0) if path.is_dir() else ("file", path.stat().st_size)
        return {"type": kind, "path": str(path.relative_to(self.directory)), "size": size, "oid": "0" * 40}

    def tell(self, document: object, status: HTTPStatus = HTTPStatus.OK, error_code: str = "") -> None:
        content = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if error_code:
            self.send_header("X-Error-Code", error_code)
        self.end_headers()
        self.wfile.write(content)
