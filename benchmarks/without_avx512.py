"""Run a module as on a CPU without AVX-512: `python -m benchmarks.without_avx512 benchmarks.serving --job mnist ...`.

ONNX Runtime asks the processor which registers the system keeps (XGETBV; Intel's manual, volume 1, 14.3). The module
and the servers that it starts get a copy of its library in which the answer holds those of AVX alone. NumPy is told by
its own variable. That shows other kernels and what follows from their speed, not another processor.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

from benchmarks.surroundings import AS_KIND

_ASK = bytes.fromhex("0f01d0")  # xgetbv: the register's halves in eax and edx
_JOIN = bytes.fromhex("89c0 48c1e220 4809c2")  # mov eax, eax; shl rdx, 32; or rdx, rax
_MASK = bytes.fromhex("83e007 4889c2 0f1f00")  # and eax, 7; mov rdx, rax; nop
_LIBRARY = "capi/onnxruntime_pybind11_state*.so"
_NUMPY = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"}


def without_avx512(folder: Path) -> dict[str, str]:
    """Put an ONNX Runtime without AVX-512 into a folder; the variables with which it is used there."""
    spec = find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        raise SystemExit("onnxruntime is not installed")
    package = shutil.copytree(Path(spec.origin).parent, folder / "onnxruntime")
    for library in package.glob(_LIBRARY):
        code = library.read_bytes()
        if _ASK + _JOIN not in code:
            raise SystemExit(f"{library.name} asks for the registers in another way than expected: not changed")
        library.write_bytes(code.replace(_ASK + _JOIN, _ASK + _MASK))
    path = os.pathsep.join([str(folder), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {"PYTHONPATH": path, AS_KIND: "avx2"} | _NUMPY


def main() -> int:
    """Run the module that the arguments name, with the rest of them."""
    with tempfile.TemporaryDirectory(prefix="resnet-serve-without-avx512-") as folder:
        environment = os.environ | without_avx512(Path(folder))
        return subprocess.run([sys.executable, "-m", *sys.argv[1:]], env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
