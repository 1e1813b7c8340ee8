"""Requests as they reach a server behind nginx: no two are the same, each has its own ids."""

from collections.abc import Sequence

import numpy as np

from benchmarks.serving.workloads import Upload

_CLIENT = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
_SEED = 0  # of the order and of all ids: every run sends the same bytes


def behind_nginx(uploads: Sequence[Upload], path: str) -> list[bytes]:
    """A whole HTTP/1.1 message for each upload, in random order.

    The header fields are those of a browser, and what nginx adds with `proxy_http_version 1.1` and the
    `proxy_set_header` lines of its documentation; X-Request-ID is its `$request_id`, traceparent what its OpenTelemetry
    module sends.
    """
    random = np.random.default_rng(_SEED)
    return [_message(uploads[i], path, random) for i in random.permutation(len(uploads))]


def _message(upload: Upload, path: str, random: np.random.Generator) -> bytes:
    request_id, trace_id, span_id = random.bytes(16).hex(), random.bytes(16).hex(), random.bytes(8).hex()
    client = ".".join(map(str, random.integers(1, 255, 4)))
    fields = {
        "Host": "digits.example.com",
        "X-Real-IP": client,
        "X-Forwarded-For": client,
        "X-Forwarded-Proto": "https",
        "X-Request-ID": request_id,
        "traceparent": f"00-{trace_id}-{span_id}-01",
        "Content-Length": str(len(upload.body)),
        "User-Agent": _CLIENT,
        "Accept": "application/json",
        "Accept-Language": "en-GB,en;q=0.7",
        "Accept-Encoding": "gzip, deflate, br, zstd",
        "Content-Type": upload.content_type,
        "Origin": "https://digits.example.com",
        "Referer": "https://digits.example.com/",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + upload.body
