import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from numpy._core import _multiarray_umath

from benchmarks.surroundings import ROOT, cpu_kind
from benchmarks.without_avx512 import without_avx512

DIGITS = "models/zoo/mnist-residual/1/model.onnx"
ASKED = f"""
import json
import numpy
import onnxruntime
from numpy._core import _multiarray_umath
from benchmarks.surroundings import cpu_kind, serving_surroundings

session = onnxruntime.InferenceSession("{DIGITS}")
pixels = numpy.arange(28 * 28, dtype=numpy.uint8).reshape(session.get_inputs()[0].shape[1:])[None]
print(json.dumps([
    session.run(None, {{"image": pixels}})[0].tolist(),
    [name for name, has in _multiarray_umath.__cpu_features__.items() if has],
    cpu_kind(),
    serving_surroundings("benchmarks.some")["command"],
]))
"""


@pytest.mark.skipif("avx512" not in cpu_kind(), reason="needs a CPU with AVX-512")
def test_a_module_runs_with_the_kernels_of_avx2(tmp_path: Path):
    (tmp_path / "asked.py").write_text(ASKED)
    words = [sys.executable, "-m", "benchmarks.without_avx512", "asked", "--job", "x"]
    environment = {"PYTHONPATH": f"{tmp_path}:{ROOT}", "PATH": "/usr/bin:/bin"}
    told = subprocess.run(words, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=120).stdout
    logits, features, kind, command = json.loads(told)

    assert "X86_V4" in [name for name, has in _multiarray_umath.__cpu_features__.items() if has]
    assert "X86_V3" in features
    assert "X86_V4" not in features
    assert kind == cpu_kind().replace("-", "-avx2-of-", 1)
    assert command == "python -m benchmarks.without_avx512 benchmarks.some --job x"

    session = ort.InferenceSession(ROOT / DIGITS)
    pixels = np.arange(28 * 28, dtype=np.uint8).reshape(session.get_inputs()[0].shape[1:])[None]
    here = session.run(None, {"image": pixels})[0]
    assert not np.array_equal(here, logits)  # sums in another order
    assert np.allclose(here, logits, atol=1e-4)


def test_a_library_that_it_does_not_know_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    library = tmp_path / "other" / "onnxruntime" / "capi" / "onnxruntime_pybind11_state.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\x0f\x01\xd0 something else")
    package = library.parent.parent / "__init__.py"
    package.touch()
    monkeypatch.syspath_prepend(tmp_path / "other")
    monkeypatch.delitem(sys.modules, "onnxruntime")
    with pytest.raises(SystemExit, match="in another way than expected"):
        without_avx512(tmp_path / "copy")
