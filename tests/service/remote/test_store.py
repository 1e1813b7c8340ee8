"""What a store without its library says; what it says of its servers is in `test_fetch.py`."""

import sys

import pytest

from service.remote.errors import StoreError
from service.remote.store import RemoteStore


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
