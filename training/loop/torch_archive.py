"""Damage in what `torch.save` wrote, which `torch.load` reads without a word."""

import io
import zipfile
import zlib

_ARCHIVE = b"PK\3\4"
"""How an archive begins, which torch.save writes by default since PyTorch 1.6."""

_BLOCK = 1 << 20
"""Bytes that are read at once."""


def damaged_record(data: bytes) -> str | None:
    """Return the name of the first record whose bytes do not have the CRC-32 that the archive keeps of it.

    None if all have, or if `data` is no archive. A CRC-32 of 0 is none: `torch.serialization.set_crc32_options(False)`.
    """
    if not data.startswith(_ARCHIVE):
        return None
    name = "the list of its records"
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for record in filter(lambda record: record.CRC, archive.infolist()):
                name = record.filename
                with archive.open(record) as stream:
                    while stream.read(_BLOCK):
                        pass
    except (zipfile.BadZipFile, zlib.error, RuntimeError, ValueError, EOFError):  # by what is damaged
        return name
    return None
