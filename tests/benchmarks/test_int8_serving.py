from pathlib import Path

import pytest

from benchmarks.int8_serving import compare, release_both
from models.engines import golden
from models.engines.backend import Backend, candidates_for
from models.engines.loader import load_engine


def test_the_version_holds_both_and_what_a_server_needs_to_choose(tmp_path: Path):
    artifact = release_both("resnet20", tmp_path)
    assert candidates_for(artifact, "auto", "cpu", "fastest") == (Backend(), Backend(precision="int8"))
    golden.verify(artifact, load_engine(artifact, Backend(precision="int8")))
    assert artifact.int8
    assert artifact.int8.metadata.lost_points() is not None
    assert len(artifact.int8.model) < len(artifact.model)


def test_ratios_are_of_the_same_rounds():
    found = compare({"fastest": [10.0, 30.0], "fp32": [5.0, 10.0], "mosec-8": [4.0, 4.0]})
    assert found["ratios"]["fastest to fp32"]["median"] == pytest.approx(2.5)
    assert found["ratios"]["fastest to mosec-8"]["median"] == pytest.approx(5.0)
    assert found["spread"]["fp32"] == {"median": 7.5, "min": 5.0, "max": 10.0}
