"""What a store without its library says, and how often it asks; what it says of its servers is in `test_fetch.py`."""

import asyncio
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import gcsfs.retry
import pytest

from service.remote.errors import StoreError, Unreachable
from service.remote.store import RemoteStore
from tests.service.remote.stores import KEYS, RunningStore, WebHandler, serving


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("s3://models/a", "s3fs", "s3"),
        ("gs://models/a", "gcsfs", "gcs"),
        ("hf://team/models", "huggingface_hub", "hub"),
        ("https://example.org/models", "aiohttp", "http"),
        ("https://example.org/models", "fsspec", "http"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch, url: str, module: str, extra: str
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in (module, "fsspec")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)  # type: ignore[arg-type]  # as Python marks what cannot be imported
    with pytest.raises(StoreError) as error:
        RemoteStore(url)
    assert str(error.value).endswith(f"pip install 'resnet-serve[{extra}]'")


def test_google_is_asked_again_by_its_own_library_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Half a minute, and not three of them, before the last copy is served; here the pauses take no time."""
    monkeypatch.setattr(gcsfs.retry, "asyncio", SimpleNamespace(sleep=lambda _: asyncio.sleep(0)))
    failing = RunningStore("", refusals={"": 503})
    with serving(partial(WebHandler, failing, directory=str(tmp_path))) as address:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", address)
        monkeypatch.setenv("FSSPEC_GS_TOKEN", "anon")
        with pytest.raises(Unreachable, match="503"):
            RemoteStore("gs://models/a").folders()
    assert failing.requests.total() == 6


def test_a_bucket_of_another_region_is_found_also_where_only_its_head_names_that(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Elsewhere(WebHandler):
        def answer(self, _path: str) -> None:
            content = b"<Error><Code>TemporaryRedirect</Code></Error>"
            if is_there := "/eu-west-1/s3/" in self.headers["Authorization"]:
                prefixes = b"<CommonPrefixes><Prefix>a/digits/</Prefix></CommonPrefixes>"
                content = b"<ListBucketResult><Name>models</Name>" + prefixes + b"</ListBucketResult>"
            self.send_response(200 if is_there else 307)
            self.send_header("Content-Length", str(len(content)))
            if self.command == "HEAD":
                self.send_header("X-Amz-Bucket-Region", "eu-west-1")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

    with serving(partial(Elsewhere, RunningStore(""), directory=str(tmp_path))) as address:
        for name, value in (KEYS | {"AWS_ENDPOINT_URL": address}).items():
            monkeypatch.setenv(name, value)
        assert RemoteStore("s3://models/a").folders() == ["digits"]
