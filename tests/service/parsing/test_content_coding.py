"""Compressed bodies, by the libraries that clients use, and what a hostile one may cost."""

import bz2
import gzip
import random
import tracemalloc
import zlib
from collections.abc import Callable

import brotli
import pytest
from backports import zstd
from hypothesis import given, settings
from hypothesis import strategies as st

from service.errors import BadRequest, TooLarge, UnsupportedCoding
from service.parsing.content_coding import CODINGS, decompress, most_decompressed
from service.policy import BODY_PIECE_BYTES, DECOMPRESSED_FLOOR_BYTES, DECOMPRESSED_RATIO

Compress = Callable[[bytes], bytes]
MOST, PADDING = 16 << 20, 512
NOISE = random.Random(0).randbytes(3 * BODY_PIECE_BYTES + 1)


def bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


def brotli_fast(data: bytes) -> bytes:
    return brotli.compress(data, quality=3)


def in_gzip_members(data: bytes) -> bytes:
    return b"".join(gzip.compress(data[at : at + 200_000]) for at in range(0, len(data), 200_000)) + bytes(PADDING)


def in_zstd_frames(data: bytes) -> bytes:
    return b"".join(zstd.compress(data[at : at + 200_000]) for at in range(0, len(data), 200_000))


WRITERS: dict[str, tuple[str, Compress]] = {
    "gzip": ("gzip", gzip.compress),
    "gzip in members, padded": ("gzip", in_gzip_members),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare_deflate),
    "brotli": ("br", brotli_fast),
    "zstd": ("zstd", zstd.compress),
    "zstd in frames": ("zstd", in_zstd_frames),
}
each_writer = pytest.mark.parametrize(("coding", "compress"), WRITERS.values(), ids=WRITERS)


@each_writer
@pytest.mark.parametrize("data", [b"x", NOISE, bytes(5 << 20)], ids=["one byte", "noise", "zeros"])
def test_a_body_comes_out_as_it_went_in(coding: str, compress: Compress, data: bytes) -> None:
    assert decompress(coding, compress(data), MOST) == data


@each_writer
@settings(max_examples=20)
@given(data=st.binary(min_size=1, max_size=300))
def test_a_body_cut_anywhere_is_refused(coding: str, compress: Compress, data: bytes) -> None:
    whole = compress(data)
    for length in range(len(whole) - PADDING * (compress is in_gzip_members)):
        with pytest.raises(BadRequest):
            decompress(coding, whole[:length], MOST)


@each_writer
def test_other_bytes_are_refused_in_the_codings_name(coding: str, compress: Compress) -> None:
    for data in (b"no such thing", b"", compress(NOISE)[:-3] + b"!!!!", compress(NOISE) + b"more"):
        with pytest.raises(BadRequest, match=coding):
            decompress(coding, data, MOST)


@each_writer
@pytest.mark.parametrize("size", [1, 1000, BODY_PIECE_BYTES, 3 * BODY_PIECE_BYTES + 7])
def test_a_body_may_be_as_large_as_is_allowed_and_no_larger(coding: str, compress: Compress, size: int) -> None:
    data = compress(bytes(size))
    assert decompress(coding, data, size) == bytes(size)
    with pytest.raises(TooLarge, match=str(size - 1)):
        decompress(coding, data, size - 1)


@each_writer
def test_a_bomb_costs_no_more_memory_than_it_may_become(coding: str, compress: Compress) -> None:
    bomb = compress(bytes(32 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            decompress(coding, bomb, 1 << 20)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < len(bomb) + (4 << 20)


def test_a_zstd_window_that_takes_too_much_memory_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 27, zstd.CompressionParameter.content_size_flag: 0}
    with pytest.raises(BadRequest, match="zstd"):
        decompress("zstd", zstd.compress(bytes(100 << 20), options=options), MOST)


@pytest.mark.parametrize(("coding", "compress"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_members_without_end_are_refused(coding: str, compress: Compress) -> None:
    with pytest.raises(BadRequest, match="goes on"):
        decompress(coding, compress(b"") * 100_000, MOST)


@pytest.mark.parametrize(
    ("size", "max_bytes", "most"),
    [
        (10, MOST, DECOMPRESSED_FLOOR_BYTES),
        (20_000, MOST, 20_000 * DECOMPRESSED_RATIO),
        (MOST, MOST, MOST),
        (10, 1000, 1000),
    ],
)
def test_size_and_ratio_are_bounded(size: int, max_bytes: int, most: int) -> None:
    assert {most_decompressed(coding, size, max_bytes) for coding in CODINGS} == {most}


@pytest.mark.parametrize("coding", ["bzip2", "compress", "gzip, br", "aes128gcm"])
def test_an_unknown_coding_is_refused_and_the_known_are_named(coding: str) -> None:
    with pytest.raises(UnsupportedCoding, match="gzip or deflate or br or zstd") as refused:
        most_decompressed(coding, len(bz2.compress(b"x")), MOST)
    assert (refused.value.status, refused.value.headers) == (415, {"accept-encoding": "gzip, deflate, br, zstd"})
