"""The bounds of the histograms' buckets."""

_SLOW_NETWORK_MS = (100, 150, 200, 300, 400, 500, 700, 1000)  # where a ResNet-50 on a CPU lies
_REQUEST_MS = (0.5, 1, 2, 5, 10, 20, 50, *_SLOW_NETWORK_MS, 2000, 5000, 10_000, 20_000, 30_000, 60_000)
REQUEST_BUCKETS = tuple(ms / 1000 for ms in _REQUEST_MS)
BATCH_BUCKETS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)  # images
BYTES_BUCKETS = tuple(float(1 << n) for n in range(8, 25, 2))  # 256 B to 16 MiB
DIFFERENCE_BUCKETS = (0.001, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # of probabilities


def request_buckets(longest_s: float) -> tuple[float, ...]:
    """Bounds in seconds that reach as far as a request may take: beyond the usual minute each is double the last."""
    buckets = list(REQUEST_BUCKETS)
    while buckets[-1] < longest_s:
        buckets.append(2 * buckets[-1])
    return tuple(buckets)


def stage_buckets(longest_s: float) -> tuple[float, ...]:
    """Bounds in seconds for a stage, which may take a fraction of what a request takes, or nearly all of it."""
    return (50e-6, 100e-6, 200e-6, *request_buckets(longest_s))
