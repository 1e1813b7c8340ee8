"""`resnet-serve predict`: classes of image files, from the shell."""

import json
import os
import ssl
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path

import numpy as np
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, CliPositionalArg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from models.command_line import command_line
from models.engines.loader import load_engine
from models.images.decoder import MAX_PIXELS, Preprocessor
from models.images.errors import ImageError
from models.images.image_type import USUAL_TYPES
from models.machine.cores import usable_cores
from models.postprocess import most_probable, softmax
from service.auth.tls import show_certificate
from service.catalog.repository import ZOO, Repository, signed_by
from service.catalog.repository_place import RepositoryPlace
from service.config.setting_types import CacheDir, FetchTimeout, ImageTypes, Positive, SigningKey
from service.config.settings import ENV_PREFIX, SettingError
from service.remote.fetch import fetch

Classes = list[tuple[str, float]]  # label and probability, in falling order

API_KEY = "RESNET_API_KEY"  # variable with the key for a server; not one of the server's own settings
TIMEOUT_S = 60  # for the answer of a running server, with --url


class Predict(BaseSettings):
    """Classify image files: by a running server with --url, else in this process."""

    model_config = command_line("resnet-serve predict", env_prefix=ENV_PREFIX)

    files: CliPositionalArg[list[Path]] = Field(description="images")
    url: str | None = Field(None, description="a running server, such as http://127.0.0.1:8000")
    api_key: SecretStr | None = Field(
        None,
        description=f"for --url, where the server wants one; better in the variable {API_KEY}, which comes after it",
    )
    client_certificate: Path | None = Field(
        None, description="for --url, where the server asks for one: PEM file of it and those between it and its root"
    )
    client_key: Path | None = Field(None, description="PEM file of its private key")
    model: str | None = Field(None, description="which model; default: the default model")
    model_repository: RepositoryPlace = Field(
        ZOO, description="folder or address of models, without --url; default: the models that ship"
    )
    cache_dir: CacheDir = None
    fetch_timeout: FetchTimeout = 600.0
    require_signature: SigningKey = None
    image_types: ImageTypes = Field(USUAL_TYPES, description="which types of image are taken, without --url")
    top_k: Positive = Field(3, description="how many classes to show")


class FileError(Exception):
    """One file cannot be classified; the message says why."""


def predict(options: Predict) -> int:
    """Print a table of classes; 0 if every file was classified, else 1."""
    classify = _by_server(options) if options.url else _in_process(options)
    table = Table("file", "class", "probability")
    failures = 0
    for file in options.files:
        try:
            for rank, (label, probability) in enumerate(classify(_read(file))):
                table.add_row("" if rank else escape(str(file)), escape(label), f"{probability:.4f}")
        except FileError as error:
            failures += 1
            table.add_row(escape(str(file)), f"[red]{escape(str(error))}[/red]", "")
    Console().print(table)
    return 1 if failures else 0


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}; give image files") from error


def _in_process(options: Predict) -> Callable[[bytes], Classes]:
    check_origin = signed_by(options.require_signature)
    repository = fetch(options.model_repository, options.cache_dir, options.fetch_timeout)
    for problem in repository.problems:
        print(f"resnet-serve: {problem}", file=sys.stderr)  # noqa: T201
    catalog = Repository(repository.folder, check_origin=check_origin).read(options.model)
    artifact = catalog.artifacts[catalog.default]
    for version in catalog.fallbacks().get(artifact.name, []):
        reason = catalog.failed[artifact.name, version]
        print(f"resnet-serve: version {artifact.version} is used, for {reason}", file=sys.stderr)  # noqa: T201
    engine = load_engine(artifact, threads=usable_cores())
    preprocessor = Preprocessor(artifact.metadata.preprocessing, MAX_PIXELS, options.image_types)

    def classify(data: bytes) -> Classes:
        try:
            logits = engine.run(preprocessor(data)[np.newaxis])
        except ImageError as error:
            raise FileError(str(error)) from error
        (top,), (probabilities,) = most_probable(logits, min(options.top_k, artifact.classes)), softmax(logits)
        return [(artifact.labels[index], float(probabilities[index])) for index in top]

    return classify


def _by_server(options: Predict) -> Callable[[bytes], Classes]:
    path = f"/models/{urllib.parse.quote(options.model)}/predict" if options.model else "/predict"
    url = f"{str(options.url).rstrip('/')}{path}?top_k={options.top_k}"
    if not url.startswith(("http://", "https://")):
        raise SettingError(f"--url must be a server's http:// or https:// address, not {options.url}")

    key = options.api_key.get_secret_value() if options.api_key else os.environ.get(API_KEY)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=_client_tls(options)))

    def classify(data: bytes) -> Classes:
        try:
            request = urllib.request.Request(url, data, headers)  # noqa: S310 - the scheme is checked above
            with opener.open(request, timeout=TIMEOUT_S) as response:
                answer = json.load(response)
            return [(one["label"], one["probability"]) for one in answer["predictions"]]
        except urllib.error.HTTPError as error:
            raise FileError(_detail(error)) from error
        except OSError as error:
            raise FileError(f"no answer from {options.url} ({_reason(error)}): is a server running there?") from error
        except (ValueError, KeyError, TypeError, HTTPException) as error:
            raise FileError(f"{options.url} does not answer as resnet-serve: give the URL of one") from error

    return classify


def _client_tls(options: Predict) -> ssl.SSLContext:
    """What trusts the system's roots, or SSL_CERT_FILE, and shows the certificate that is given; SettingError."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])  # this and the next as urllib's own context has it
    context.post_handshake_auth = True
    if options.client_certificate and options.client_key:
        show_certificate(context, options.client_certificate, options.client_key, "--client")
    elif options.client_certificate or options.client_key:
        raise SettingError("a client's certificate needs both --client-certificate and --client-key")
    return context


def _reason(error: OSError) -> str:
    """What the system says, in words."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    return (reason.strerror if isinstance(reason, OSError) else None) or str(reason)


def _detail(error: urllib.error.HTTPError) -> str:
    """What the server's problem document says."""
    try:
        return str(json.load(error)["detail"])
    except (ValueError, KeyError, TypeError):
        return str(error)
