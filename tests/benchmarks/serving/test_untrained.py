from pathlib import Path

import pytest

from benchmarks.serving.untrained import release_untrained
from models.artifact.artifact import read_artifact
from models.engines import golden
from models.engines.loader import load_engine


@pytest.mark.slow
def test_an_untrained_network_is_released_for_photographs_and_proves_itself(tmp_path: Path):
    release_untrained("resnet20", tmp_path)
    artifact = read_artifact(tmp_path / "resnet20" / "1")
    assert (artifact.input_shape, artifact.classes) == ((224, 224, 3), 10)
    golden.verify(artifact, load_engine(artifact))
