"""Decoded images in a file without a name: short of memory, of disk, killed, and shared by two processes."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from rich.console import Console

from models.networks import registry
from tests.training.acting import KILL, acting
from tests.training.folders import pack, pictures
from tests.training.run_folder import read_history
from tests.training.stopping import train_for
from training.data.dataset import measure
from training.data.mapped_images import allocate
from training.loop.checkpoint import read_checkpoint
from training.loop.recipe import load_recipe
from training.loop.run import Run
from training.loop.training_images import load_training_images

RECIPE = """
architecture = "mnist-residual"
epochs = 100_000
batch_size = 15
validation = 0.25
precision = "fp32"

[optimizer]
learning_rate = 0.01
momentum = 0.9
nesterov = true
weight_decay = 0
decay = "weights"

[schedule]
kind = "one-cycle"
warmup = 0.3
"""
OPTIONS = ("--seed", "3", "--threads", "1", "--device", "cpu")
WRITTEN = {
    "last.pt",
    "best.pt",
    "metrics.jsonl",
    "curves.png",
    "confusion.png",
    "classes.csv",
    "confusions.csv",
}


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Sixty, and one file that is none, so that there is room left in the file."""
    return pack(tmp_path, "folder", pictures(20) | {"red/none.png": b"x"})


def _command(recipe: Path, photos: Path, output: Path, *options: str) -> list[str]:
    return ["training", "fit", str(recipe), "--data", str(photos), "--output", str(output), *OPTIONS, *options]


def _start(command: list[str], processes: int = 1) -> subprocess.Popen[str]:
    launcher = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), "-m"]
    return subprocess.Popen(
        [sys.executable, "-m", *(launcher if processes > 1 else []), *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "COLUMNS": "200"},
    )


def _wait_for(process: subprocess.Popen[str], start: str) -> str:
    """What it says up to a line that begins so."""
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith(start):
            return said
    pytest.fail(f"ended without {start!r}: {said}")


def _children(process: subprocess.Popen[str]) -> list[int]:
    lists = Path(f"/proc/{process.pid}/task").glob("*/children")
    return [int(word) for path in lists for word in path.read_text().split()]


def _mapped(pid: int, folder: Path) -> set[tuple[str, str]]:
    """Device and inode of each file in the folder that the process has mapped; all must be without a name."""
    lines = [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if f" {folder}/" in line]
    assert all(line.endswith("(deleted)") for line in lines)
    return {(line.split()[3], line.split()[4]) for line in lines}


@pytest.mark.slow
def test_two_processes_map_what_one_of_them_decoded_and_kill_leaves_nothing(recipe, photos, tmp_path):
    output = tmp_path / "run"
    process = _start(_command(recipe, photos, output), 2)
    said = _wait_for(process, "epoch   1 ")
    first, second = _children(process)
    assert len(_mapped(first, output)) == 2  # those to train on, those held back
    assert _mapped(first, output) == _mapped(second, output)
    assert said.count("reading 61 images") == said.count("red/none.png: not a PNG") == 1
    for pid in (first, second):
        os.kill(pid, signal.SIGKILL)
    process.communicate()
    on_their_way = tuple(f".{name}." for name in WRITTEN)
    assert {path.name for path in output.iterdir() if not path.name.startswith(on_their_way)} <= WRITTEN
    row = read_history(output)[0]
    assert row["loss"] == pytest.approx(_first_loss(recipe, photos), rel=1e-5)


def _first_loss(recipe: Path, photos: Path) -> float:
    """Of the epoch, in this process alone."""
    settings = load_recipe(str(recipe))
    images, _ = load_training_images(settings, str(photos), photos, False, Console(quiet=True))
    torch.manual_seed(3)
    run = Run(registry.build("mnist-residual", classes=3), settings, images, measure(images), 3)
    train_for(run, run.epoch_steps)
    return run.progress.loss / run.progress.images


@pytest.mark.slow
def test_killed_run_on_picture_files_resumes_to_the_same_bits(recipe, photos, tmp_path):
    recipe.write_text(RECIPE.replace("100_000", "5"))
    whole, run = tmp_path / "whole", tmp_path / "run"
    output, _ = _start(_command(recipe, photos, whole)).communicate()
    assert {path.name for path in whole.iterdir()} == WRITTEN, output
    words = _command(recipe, photos, run)[1:]
    killed = subprocess.run([sys.executable, *acting(tmp_path, 2, 1, KILL), *words], capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_checkpoint(run / "last.pt").state["progress"]["epoch"] == 2
    output, _ = _start(_command(recipe, photos, run, "--resume")).communicate()
    ours, theirs = (read_checkpoint(folder / "last.pt").weights for folder in (run, whole))
    assert all(torch.equal(ours[name], value) for name, value in theirs.items()), output


def test_of_two_processes_one_tells_what_is_wrong(recipe, photos, tmp_path):
    output, _ = _start(_command(recipe, photos, tmp_path / "run", "--strict"), 2).communicate()
    assert output.count("error: 1 file cannot be read as an image") == 1
    assert "training/commands/fit.py" not in output  # no traceback through it, of the process that waited


LITTLE_MEMORY = """
import resource, sys
from pathlib import Path
import torch
from training.data.dataset import measure
from training.data.preprocessing_spec import spec_of_files
from training.data.layout import find_layout
from training.data.archives import find_store

def limit(mebibytes):
    used = int(Path("/proc/self/status").read_text().split("VmData:")[1].split()[0])
    resource.setrlimit(resource.RLIMIT_DATA, (1024 * used + mebibytes * 2**20, resource.RLIM_INFINITY))

torch.set_num_threads(1)
files = find_layout(find_store(Path(sys.argv[1]))).files(None)
limit(150)
files, spec = files.take(torch.arange(len(files)).repeat(100)), spec_of_files(3, 224)
images = files.decode(spec, files.allocate(spec, Path(sys.argv[2])))
limit(40)
print(images.images.numel(), *measure(images).mean)
"""


def test_images_may_be_larger_than_memory(tmp_path):
    """225 MB of them with 150 to be had, and 75 of each colour with 40."""
    photos = pack(tmp_path, "folder", pictures(5))
    command = [sys.executable, "-c", LITTLE_MEMORY, str(photos), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    count, *means = ended.stdout.split()
    assert int(count) == 1500 * 3 * 224 * 224
    assert [float(mean) for mean in means] == pytest.approx([100 / 255, 93 / 255, 100 / 255], abs=0.02)


def test_disk_is_taken_before_it_is_written_to(tmp_path):
    """Else a disk that fills up meanwhile would kill the process that writes to the mapping."""
    images, path = allocate(tmp_path, (10, 3, 100, 100))
    assert images.shape == (10, 3, 100, 100)
    assert 512 * Path(path).stat().st_blocks >= 300_000


def test_disk_that_refuses_the_room_is_told_with_size_and_place(recipe, photos, tmp_path):
    """A limit on the size of files stands for the quota of a disk; the default would be to be killed later."""
    output = tmp_path / "run"
    limited = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); "
    limited += "runpy.run_module('training', run_name='__main__')"
    command = [sys.executable, "-c", limited, *_command(recipe, photos, output)[1:]]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert f"error: 46 images of 28x28 pixels take {46 * 28 * 28:,} bytes in {output}" in line
    assert "(File too large)" in line
    assert not output.exists()


def test_folder_that_cannot_be_written_is_told_without_a_word_of_room(require, tmp_path):
    """A folder on a read-only file system, in a namespace of its own."""
    namespace = [require("unshare"), "--map-root-user", "--mount"]
    mount = ["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(tmp_path)]
    if subprocess.run([*namespace, *mount], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    code = (
        "from pathlib import Path; from training.data.mapped_images import allocate; "
        f"allocate(Path({str(tmp_path)!r}), (1, 3, 8, 8))"
    )
    script = 'mount -t tmpfs -o ro tmpfs "$1"; exec "$2" -c "$3"'
    command = [*namespace, "sh", "-c", script, "sh", str(tmp_path), sys.executable, code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"DataError: {tmp_path} cannot be written: Read-only file system; give another folder" in ended.stderr


def test_disk_without_the_room_is_told_before_it_is_filled(recipe, photos, tmp_path, require):
    """A disk of 16 KiB in a namespace of its own."""
    namespace, disk = [require("unshare"), "--map-root-user", "--mount"], tmp_path / "disk"
    disk.mkdir()
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    command = " ".join([sys.executable, "-m", *_command(recipe, photos, disk / "run")])
    script = f"mount -t tmpfs -o size=16k tmpfs {disk}; {command}"
    ended = subprocess.run([*namespace, "sh", "-c", script], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert f"bytes in {disk}/run, which cannot be allocated (16,384 are free)" in ended.stderr
