"""Whatever flags, files and folders it is given, `resnet-train` ends with an exit code and a sentence if it refuses."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from models.networks import registry
from tests.training.command import resnet_train
from tests.training.folders import below, pack, picture, pictures
from training.options import (
    CompareOptions,
    EvaluateOptions,
    ExperimentOptions,
    ExportOptions,
    FitOptions,
    ImportOptions,
    InfoOptions,
    InspectOptions,
    QuantizeOptions,
)

ZOO = Path(__file__).resolve().parents[2] / "models" / "zoo" / "mnist-residual" / "1"

RECIPE = """
architecture = "mnist-residual"
epochs = 1
batch_size = 4
validation = 0.3
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

OPTIONS = {
    "info": InfoOptions,
    "inspect": InspectOptions,
    "fit": FitOptions,
    "export": ExportOptions,
    "evaluate": EvaluateOptions,
    "import": ImportOptions,
    "quantize": QuantizeOptions,
    "experiment": ExperimentOptions,
    "compare": CompareOptions,
}

ODD = ["", "0", "-1", "1.5", "nan", "1e400", "9" * 30, "é", "\udce9", "a b", "-", "--", "=", "x=y", "{}", "null", "[b]"]
PLACES = ["/", "/dev/null", "/nowhere/x", ".", "~nobody", "@/nowhere", "here/photos", "here/flat", "here/net.pth"]
PLACES += [
    "here/released",
    "here/net.onnx",
    "here/listed",
    "here/theirs",
    "here/last.pt",
    "here/mine.toml",
    "here/run",
    "here/photos.zip",
]

# Deterministic, and no example is looked for twice: what fails is printed as it is.
FEW = settings(
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.fixture(scope="module")
def here(tmp_path_factory, digits_checkpoint) -> Path:
    """A folder with one of everything that commands take."""
    place = tmp_path_factory.mktemp("here")
    pack(place, "folder", below("train", pictures(2, (12, 9))) | below("test", pictures(1, (9, 9)))).rename(
        place / "photos"
    )
    pack(place, "folder", {f"{index}.png": picture("red", index, (8, 8)) for index in range(3)}).rename(place / "flat")
    pack(place, "set.zip", pictures(2, (12, 9))).rename(place / "photos.zip")
    shutil.copytree(ZOO, place / "released" / "m" / "1")
    shutil.copy(digits_checkpoint, place / "last.pt")
    torch.save(registry.build("resnet20").state_dict(), place / "net.pth")
    shutil.copytree(place / "flat", place / "listed")
    (place / "listed" / "labels.csv").write_text("image,label,split\n0.png,a,train\n1.png,b,train\n2.png,b,test\n")
    theirs = place / "theirs"
    theirs.mkdir()
    shutil.copy(place / "net.pth", theirs / "pytorch_model.bin")
    (theirs / "config.json").write_text(json.dumps({"architecture": "resnet20", "num_classes": 10}))
    (place / "labels.txt").write_text("\n".join("abcdefghij"))
    np.savez(place / "reference.npz", inputs=np.zeros((1, 3, 32, 32), np.float32), logits=np.zeros((1, 10), np.float32))
    onnx.save(_classifier(), place / "net.onnx")
    (place / "mine.toml").write_text(RECIPE)
    (place / "run").mkdir()
    (place / "run" / "metrics.jsonl").write_text('{"epoch": 1, "loss": 1.0, "accuracy": 0.5}\n')
    return place


def _classifier() -> onnx.ModelProto:
    """Of two classes: the means of the first two channels."""
    nodes = [
        onnx.helper.make_node("GlobalAveragePool", ["image"], ["means"]),
        onnx.helper.make_node("Flatten", ["means"], ["three"]),
        onnx.helper.make_node("MatMul", ["three", "weights"], ["logits"]),
    ]
    weights = onnx.numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "weights")
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, [1, 3, 16, 16])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, [1, 2])
    graph = onnx.helper.make_graph(nodes, "net", [image], [logits], [weights])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def _ends_well(words: Sequence[str], here: Path, out: Path) -> None:
    """The command ends, tells nothing of its own code, and gives a reason for every refusal."""
    told = [word.replace("here/", f"{here}/").replace("out/", f"{out}/") for word in words]
    ended = resnet_train(*told)
    assert ended.code in (0, 1, 2), ended
    assert "Traceback" not in ended.output + ended.errors
    if ended.code:
        assert ended.errors.strip().rpartition("error: ")[2], ended
    for internal in ("site-packages", "torch._", "_C.", "Errno", "object has no attribute"):
        assert internal not in ended.errors, ended


# Each would end soon: with a refusal, or after a moment's work.
LINES = {
    "info": ["info", "resnet20"],
    "inspect": ["inspect", "here/photos", "--output=out/x.png"],
    "fit": ["fit", "here/mine.toml", "--data=here/flat", "--output=out/run"],
    "export": ["export", "here/last.pt", "--data=here/flat", "--repository=out/", "--name=m"],
    "evaluate": ["evaluate", "here/last.pt", "--data=here/photos"],
    "import": ["import", "here/net.pth", "--arch=resnet20", "--repository=out/", "--name=m"],
    "quantize": ["quantize", "here/released/m/1", "--data=here/flat"],
    "experiment": ["experiment", "bottleneck", "--quick", "--output=/dev/null/x"],  # to count takes a second
    "compare": ["compare", "here/run", "--output=out/x.png"],
}


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """A usual command line, with one or two odd values in the places of its own, or of other flags."""
    command = draw(st.sampled_from(sorted(LINES)))
    words, value = list(LINES[command]), st.sampled_from([*ODD, *PLACES])
    names = [(field.alias or name).replace("_", "-") for name, field in OPTIONS[command].model_fields.items()]
    for name in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2, unique=True)):
        if name == names[0]:
            words[1] = draw(value)
        else:
            words = [word for word in words if word.partition("=")[0] != f"--{name}"] + [f"--{name}={draw(value)}"]
    return words


@settings(FEW, max_examples=120)
@given(words=command_lines())
def test_any_flags(words: list[str], here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _ends_well(words, here, tmp_path)


def _damaged(content: bytes, damage: tuple[str, float]) -> bytes:
    kind, place = damage
    at = int(place * len(content))
    return {
        "cut": content[:at],
        "flipped": content[:at] + bytes([content[min(at, len(content) - 1)] ^ 0x55]) + content[at + 1 :],
        "doubled": content + content,
        "text": b"this is no such file\n" * 9,
        "zeros": bytes(200),
        "surrogate": content.replace(b"0", b"\xff\xfe"),
    }[kind]


DAMAGES = st.tuples(
    st.sampled_from(["cut", "flipped", "doubled", "text", "zeros", "surrogate"]), st.floats(0, 1, exclude_max=True)
)

FILES = {
    "last.pt": ["evaluate", "{}", "--data=here/photos"],
    "net.pth": ["import", "{}", "--arch=resnet20", "--labels=a,b", "--repository=out/", "--name=m"],
    "theirs/config.json": ["import", "{}/..", "--repository=out/", "--name=m"],
    "labels.txt": ["import", "here/net.pth", "--arch=resnet20", "--labels=@{}", "--repository=out/", "--name=m"],
    "reference.npz": ["import", "here/net.pth", "--arch=resnet20", "--reference={}", "--repository=out/", "--name=m"],
    "net.onnx": ["import", "{}", "--labels=a,b", "--mean=0,0,0", "--std=1,1,1", "--repository=out/", "--name=m"],
    "listed/labels.csv": ["inspect", "{}/..", "--output=out/x.png"],
    "listed/2.png": ["evaluate", "here/last.pt", "--data={}/.."],
    "mine.toml": ["fit", "{}", "--data=here/flat", "--output=out/run"],
    "photos.zip": ["inspect", "{}", "--output=out/x.png"],
    "run/metrics.jsonl": ["compare", "{}/..", "--output=out/x.png"],
    "released/m/1/model.onnx": ["evaluate", "{}/..", "--data=here/photos"],
    "released/m/1/SHA256SUMS": ["quantize", "{}/..", "--data=here/photos"],
    "released/m/1/model.safetensors": ["fit", "here/mine.toml", "--from={}/..", "--data=here/flat", "--output=out/run"],
}


@settings(FEW, max_examples=100)
@given(name=st.sampled_from(sorted(FILES)), damage=DAMAGES)
def test_any_file(name: str, damage: tuple[str, float], here: Path, tmp_path: Path) -> None:
    copy = tmp_path / "damaged"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(here, copy)
    file = copy / name
    file.write_bytes(_damaged(file.read_bytes(), damage))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    words = [word.format(f"{copy}/{name}").replace(f"{name}/..", str(Path(name).parent)) for word in FILES[name]]
    _ends_well(words, here, tmp_path)


NAMES = ["train", "Test", "val", "valid", "a", "b", "café", "cafe\u0301", "caf\udce9", "runs", "[b]", "a\nb", "1", ".x"]
FOLDERS = st.lists(st.sampled_from(NAMES), max_size=3).map("/".join)
LEAVES = st.sampled_from(
    ["1.png", "2.jpg", "3", "note.txt", "labels.csv", "train.csv", "x.zip", "train.zip", "\udcff.png"]
)
CONTENTS = st.sampled_from(
    [
        picture("red", 1, (8, 8)),
        picture("blue", 2, (9, 7), "JPEG"),
        b"",
        b"no image",
        b"image,label\n1.png,cat\n3,dog\n",
    ]
)
TREES = st.dictionaries(
    st.tuples(FOLDERS, LEAVES).map("/".join).map(lambda name: name.lstrip("/")), CONTENTS, max_size=12
)


@settings(FEW, max_examples=60)
@given(tree=TREES, kind=st.sampled_from(["folder", "set.tar"]), command=st.sampled_from(["inspect", "fit", "evaluate"]))
def test_any_folder(tree: dict[str, bytes], kind: str, command: str, here: Path, tmp_path: Path) -> None:
    for old in ("folder", "set.tar", "run"):
        shutil.rmtree(tmp_path / old, ignore_errors=True)
    data = pack(tmp_path, kind, _without_clashes(tree)) if tree else here / "flat"
    lines = {
        "inspect": ["inspect", str(data), "--output=out/x.png"],
        "fit": ["fit", "here/mine.toml", f"--data={data}", "--output=out/run"],
        "evaluate": ["evaluate", "here/last.pt", f"--data={data}"],
    }
    _ends_well(lines[command], here, tmp_path)


def _without_clashes(tree: dict[str, bytes]) -> dict[str, bytes]:
    """The files that do not lie in one another."""
    return {
        name: content
        for name, content in tree.items()
        if not any(other != name and (name + "/").startswith(other + "/") for other in tree)
    }


@pytest.mark.parametrize("command", sorted(OPTIONS))
def test_nothing_of_the_environment_is_an_option(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in OPTIONS[command].model_fields:
        monkeypatch.setitem(os.environ, name.upper(), "odd")
    assert resnet_train(command, "--help").code == 0
