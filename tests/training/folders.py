"""Image folders and archives of them, made from names and bytes."""

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

KINDS = ("folder", "set.tar", "set.tar.gz", "set.zip")

COLOURS = {"blue": (40, 40, 220), "green": (40, 200, 40), "red": (220, 40, 40)}


def picture(name: str, seed: int, size: tuple[int, int] = (32, 32), kind: str = "PNG") -> bytes:
    """A noisy picture of the named colour, of this width and height."""
    noise = np.random.default_rng(seed).normal(0, 25, (size[1], size[0], 3))
    stream = io.BytesIO()
    Image.fromarray((np.array(COLOURS[name]) + noise).clip(0, 255).astype(np.uint8)).save(stream, kind)
    return stream.getvalue()


def pictures(count: int, size: tuple[int, int] = (32, 32), kind: str = "PNG", seed: int = 0) -> dict[str, bytes]:
    """So many pictures of each colour, each in the folder of its name."""
    return {
        f"{name}/{index}.{kind.lower()}": picture(name, 1000 * seed + index, size, kind)
        for name in COLOURS
        for index in range(count)
    }


def below(top: str, files: Mapping[str, bytes]) -> dict[str, bytes]:
    """The same files in a folder of that name."""
    return {f"{top}/{name}": content for name, content in files.items()}


def pack(place: Path, kind: str, files: Mapping[str, bytes]) -> Path:
    """Write the files as a folder or archive, one of KINDS, in their order; return its path."""
    path = place / kind
    if kind == "folder":
        for name, content in files.items():
            (path / name).parent.mkdir(parents=True, exist_ok=True)
            (path / name).write_bytes(content)
    elif kind == "set.zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if kind.endswith("gz") else "w") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path
