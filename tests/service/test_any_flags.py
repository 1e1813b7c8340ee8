"""Whatever flags, variables and files it is given, `resnet-serve` ends with a code and a sentence if it refuses."""

import io
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from service.cli import main
from service.commands.check import Check
from service.commands.health import Health
from service.commands.key import NewKey
from service.commands.predict import Predict
from service.config.settings import ENV_PREFIX, Settings

ODD = ["", "0", "-1", "1.5", "nan", "1e400", "9" * 30, "é", "\udce9", "a b", "-", "--", "=", "x=y", "{}", "null", "[b]"]
ODD += [
    "/",
    "/dev/null",
    "/nowhere/x",
    ".",
    "~nobody",
    "http://127.0.0.1:1",
    "http://[",
    '{"m": {"batch_delay": -1}}',
    "[1",
]
FLAGS = {"serve": Settings, "check": Check, "predict": Predict, "health": Health, "key": NewKey}
LINES = {
    "serve": ["--model-repository=/nowhere"],
    "check": ["check", "/nowhere"],
    "predict": ["predict", "here/odd.png", "--model-repository=/nowhere"],
    "health": ["health", "--port=1"],
    "key": ["key", "somebody"],
}
SUCCEEDS = ("key",)  # with any name; what the others are asked for is not there


@pytest.fixture
def handlers() -> Iterator[None]:
    """What the process does on signals afterwards is what it did before."""
    before = {number: signal.getsignal(number) for number in (*map(signal.Signals, (1, 2, 3, 15)),)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@st.composite
def command_lines(draw: st.DrawFn) -> tuple[list[str], dict[str, str]]:
    """A command that would not serve, with one or two odd values in its own places, other flags or variables."""
    command = draw(st.sampled_from(sorted(LINES)))
    words, variables, value = list(LINES[command]), {}, st.sampled_from(ODD)
    for name in draw(
        st.lists(st.sampled_from(sorted(FLAGS[command].model_fields)), min_size=1, max_size=2, unique=True)
    ):
        if name in ("repository", "files") or (command, name) == ("key", "name"):
            words[1] = draw(value)
        elif name != "model_repository" and draw(st.booleans()):
            variables[ENV_PREFIX + name.upper()] = draw(value)
        elif name != "model_repository":
            words.append(f"--{name.replace('_', '-')}={draw(value)}")
    return words, variables


def _run(words: Sequence[str]) -> tuple[int, str]:
    """The exit code, and what is said of it."""
    said = io.TextIOWrapper(io.BytesIO(), "utf-8")
    with redirect_stdout(said), redirect_stderr(said):
        try:
            code = main(list(words))
        except SystemExit as ended:  # of usage errors that argparse finds
            code = int(ended.code or 0)
    said.seek(0)
    return code, said.read()


SAME_EACH_TIME = settings(
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@settings(SAME_EACH_TIME, max_examples=150)
@given(line=command_lines())
@pytest.mark.usefixtures("handlers")
def test_any_flags(line: tuple[list[str], dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, variables = line
    (tmp_path / "odd.png").write_bytes(b"no image")
    with monkeypatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv(f"{ENV_PREFIX}LOG_FORMAT", "console")
        for name, value in variables.items():
            patch.setenv(name, value)
        code, said = _run([word.replace("here/", f"{tmp_path}/") for word in words])
    assert code in (0, 1, 2) if words[0] in SUCCEEDS else code in (1, 2), said
    assert said.strip()
    for internal in ("Traceback", "Errno", "site-packages", "object has no attribute", "NoneType"):
        assert internal not in said


REPOSITORY = Path(__file__).resolve().parents[2] / "models" / "zoo" / "mnist-residual"
DAMAGE = st.tuples(st.sampled_from(["cut", "changed", "text", "gone"]), st.floats(0, 1, exclude_max=True))
VERSION_FILES = ["model.onnx", "SHA256SUMS", "model.safetensors"]


def _damage(file: Path, kind: str, place: float) -> None:
    content = file.read_bytes()
    at = int(place * len(content))
    match kind:
        case "cut":
            file.write_bytes(content[:at])
        case "changed":
            file.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        case "text":
            file.write_text("this is no such file\n")
        case "gone":
            file.unlink()


@settings(SAME_EACH_TIME, max_examples=12)
@given(name=st.sampled_from([*VERSION_FILES, "picture.png"]), damage=DAMAGE)
def test_any_file_of_a_model_or_picture(name: str, damage: tuple[str, float], tmp_path: Path) -> None:
    """`predict` refuses a damaged model and `check` names it; a damaged picture has its reason in the table."""
    shutil.rmtree(tmp_path / "models", ignore_errors=True)
    version = shutil.copytree(REPOSITORY / "1", tmp_path / "models" / "m" / "1")
    picture = tmp_path / "picture.png"
    Image.linear_gradient("L").save(picture)
    _damage(picture if name == "picture.png" else version / name, *damage)
    commands = [["predict", str(picture), f"--model-repository={tmp_path / 'models'}"]]
    if name != "picture.png":
        commands.append(["check", str(tmp_path / "models"), "--max-batch-size=1"])
    codes = []
    for words in commands:
        code, said = _run(words)
        codes.append(code)
        assert said.strip()
        for internal in ("Traceback", "Errno", "site-packages", "object has no attribute", "NoneType"):
            assert internal not in said
    assert set(codes) <= {0, 1}
    assert len(set(codes)) == 1
