from collections.abc import Callable
from pathlib import Path

from benchmarks.serving import wrk
from benchmarks.serving.workloads import Upload
from tests.benchmarks.conftest import Handler, Respond


def test_answers_are_counted_and_failures_with_them(
    http_server: Callable[[Respond], int], require: Callable[[str], str], tmp_path: Path
):
    require("wrk")
    seen: list[tuple[bytes, str | None]] = []

    def every_third_fails(handler: Handler, body: bytes) -> None:
        seen.append((body, handler.headers["Content-Type"]))
        handler.answer(500 if len(seen) % 3 == 0 else 200)

    port = http_server(every_third_fails)
    load = wrk.drive(f"http://127.0.0.1:{port}/", Upload(b"\0\xffbody", "image/png"), 1, 1, tmp_path)
    assert set(seen) == {(b"\0\xffbody", "image/png")}
    # The last answer may come too late to be counted.
    assert load.requests in (len(seen) - 1, len(seen))
    assert load.failed in (load.requests // 3, load.requests // 3 + 1)
    assert 0 < load.p50_ms <= load.p99_ms <= load.max_ms
    assert load.per_second == (load.requests - load.failed) / load.seconds
