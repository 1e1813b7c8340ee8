"""What can be wrong with a repository that lies elsewhere.

RepositoryError
└── StoreError           it cannot be used as it is
    ├── NothingThere     no such bucket, repository, folder or file
    ├── AccessDenied     no credentials, or none that may read it
    ├── NothingKept      the cache cannot be written: it is full, read-only or another's
    └── Unreachable      it may pass: no connection, no answer in time, an error of the store
"""

from service.catalog.repository import RepositoryError


class StoreError(RepositoryError):
    """What a store holds, or this machine does, makes it impossible; the message says what to do."""


class NothingThere(StoreError):
    """No such bucket, repository, folder or file."""


class AccessDenied(StoreError):
    """No credentials, or none that may read it."""


class NothingKept(StoreError):
    """The cache cannot be written: it is full, read-only or another's."""


class Unreachable(StoreError):
    """It may pass: no connection, no answer in time, an error of the store."""
