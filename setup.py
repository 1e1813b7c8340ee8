"""Compiles the modules that every request passes, with mypyc: they answer alike, and more in the same time.

An editable install runs the sources as they are, and so does one on a machine that has no C compiler.
"""

import sys
from pathlib import Path

from mypyc.build import mypycify
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

COMPILED = (
    "parsing/head",
    "prediction/request",
    "prediction/response",
    "prediction/inference_response",
    "prediction/request_metrics",
    "batching/admission",
    "batching/wait_estimate",
    "batching/batcher",
    "batching/batch_policy",
    "batching/results",
    "batching/outbox",
    "batching/image_task",
)
# What comes out does not depend on which other packages are installed, nor on what mypy says of the other modules.
MYPY = ("--config-file=", "--no-site-packages", "--ignore-missing-imports", "--follow-imports=silent")


class BuildIfPossible(build_ext):
    """Builds all extension modules, or none."""

    def run(self) -> None:
        """Compile, if there is a compiler."""
        self._forget()
        try:
            super().run()
        except Exception as error:
            self._forget()
            self.extensions = []
            self.warn(f"nothing is compiled, requests take more time: {error}")

    def _forget(self) -> None:
        """Remove what was built, now or by another build in this folder: a wheel would have all of it."""
        for path in Path(self.build_lib).rglob("*.so"):
            path.unlink()


def extensions() -> list[Extension]:
    """The compiled modules, where the command builds them; to translate them to C takes a while."""
    if {"bdist_wheel", "build_ext"}.isdisjoint(sys.argv):
        return []
    modules = [f"service/{module}.py" for module in COMPILED]
    found = mypycify([*MYPY, *modules], opt_level="3", debug_level="0", group_name="resnet_serve")
    for extension in found:
        extension.extra_compile_args.append("-Wno-error")  # a newer compiler has warnings that mypyc does not know
    return found


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildIfPossible})
