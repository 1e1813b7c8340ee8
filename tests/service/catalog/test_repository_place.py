"""What may be given as a repository: folders, and addresses that can be meant."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from service.catalog.repository_place import RepositoryPlace

PLACE: TypeAdapter[Path | str] = TypeAdapter(RepositoryPlace)


@pytest.mark.parametrize("given", ["models", "/srv/models", "s3:models", "./s3/models", "a:b//c"])
def test_what_is_no_url_is_a_folder(given: str) -> None:
    assert PLACE.validate_python(given) == Path(given)


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("s3://bucket/models/", "s3://bucket/models"),
        ("S3://Bucket", "s3://Bucket"),
        ("gs://bucket/a//", "gs://bucket/a"),
        ("hf://team/models@v1.0", "hf://team/models@v1.0"),
        ("https://example.org:8443/models", "https://example.org:8443/models"),
    ],
)
def test_a_url_has_no_slash_at_its_end(given: str, meant: str) -> None:
    assert PLACE.validate_python(given) == meant


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("ftp://host/models", "ftp:// is not known; give a folder or a URL of s3://, gs://, hf://, https://"),
        ("s3://", "names no place"),
        ("https:///models", "names no place"),
        ("https://me:secret@host/models", "holds a name or password"),
        ("hf://team", "give hf://OWNER/NAME"),
        ("https://host/models?key=1", "the plain address of a folder"),
        ("s3://bucket/../other", "the plain address of a folder"),
        ("s3://bucket/*", "the plain address of a folder"),
    ],
)
def test_other_urls_are_refused_with_the_reason(given: str, says: str) -> None:
    with pytest.raises(ValidationError) as error:
        PLACE.validate_python(given)
    assert says in str(error.value)
