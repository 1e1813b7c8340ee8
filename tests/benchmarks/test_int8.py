from benchmarks.int8 import sizes, speeds
from training.release.int8_report import BATCHES


def test_each_size_of_batch_has_its_ratio():
    fp32, int8 = tuple(100.0 for _ in BATCHES), tuple(50.0 * n for n, _ in enumerate(BATCHES, 1))
    found = speeds(fp32, int8)
    assert [found[f"batch_{size}"]["ratio"] for size in BATCHES] == [0.5 * n for n, _ in enumerate(BATCHES, 1)]
    assert found[f"batch_{BATCHES[0]}"] == {"fp32": 100.0, "int8": 50.0, "ratio": 0.5}


def test_sizes_are_those_of_the_files():
    assert sizes(b"1234", b"1") == {"fp32_bytes": 4, "int8_bytes": 1}
