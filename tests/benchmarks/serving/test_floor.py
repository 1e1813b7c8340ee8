from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.serving.floor import measure_floor
from benchmarks.serving.workloads import Workload
from models.machine.cores import usable_cores
from tests.models.images.pictures import encode


def test_a_loop_on_each_core_uses_no_more_than_these_cores(workload: Workload, tmp_path: Path):
    image = encode(Image.new("L", (8, 8), 40))
    sample = measure_floor(replace(workload, image=image), 8, 1, tmp_path)
    assert (sample.batch, sample.loops) == (8, usable_cores())
    cores = sample.images_per_s * sample.cpu_us_per_image / 1e6
    assert 0 < cores <= 1.01 * sample.loops


def test_a_loop_that_fails_is_told(workload: Workload, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    with pytest.raises(RuntimeError, match="a bare loop with batches of 8 ended before it was warm"):
        measure_floor(workload, 8, 1, tmp_path)  # its image is none
    assert "UnsupportedImage" in capfd.readouterr().err
