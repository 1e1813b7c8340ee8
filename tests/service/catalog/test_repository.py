"""Which models of a repository are served, and what is said of the rest."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from models.artifact.artifact import Artifact
from models.artifact.metadata import ArtifactError
from service.catalog.catalog import Catalog
from service.catalog.repository import Repository, RepositoryError, list_models
from service.catalog.selection import Selection
from tests.artifacts import make_artifact
from tests.service.pictures import png
from tests.service.served import Served, Servers


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version of a model, to be copied."""
    return make_artifact(tmp_path_factory.mktemp("sound"), "plain")


def place(sound: Path, *path: str | Path) -> Path:
    """A sound version there."""
    return shutil.copytree(sound, Path(*path))


def damage(version: Path) -> None:
    with (version / "model.onnx").open("ab") as model:
        model.write(b"!")


@pytest.fixture
def repository(sound: Path, tmp_path: Path) -> Path:
    """One sound model, and each way in which another can be none."""
    place(sound, tmp_path, "plain", "1")
    (tmp_path / "note.onnx").write_bytes(b"a file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "named" / "newest").mkdir(parents=True)
    (tmp_path / "hollow" / "3").mkdir(parents=True)
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "2").write_bytes(b"a file")
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / os.fsdecode(b"no text \xff")).mkdir()
    damage(place(sound, tmp_path, "damaged", "1"))
    for name in (".hidden", "lost+found"):
        (tmp_path / name).mkdir()
    (tmp_path / "README.md").write_text("about these models")
    return tmp_path


FAILED = {
    ("note.onnx", ""): "is a file",
    ("empty", ""): "no version",
    ("named", ""): "no version",
    ("hollow", "3"): "SHA256SUMS is missing",
    ("flat", "2"): "no such directory",
    ("loop", ""): "cannot be read",
    ("gone", ""): "cannot be read",
    ("no text \\udcff", ""): "no version",
    ("damaged", "1"): "SHA-256",
}


def test_what_cannot_be_read_is_failed_with_its_reason_and_path(repository: Path) -> None:
    catalog = Repository(repository).read("plain")
    assert [(artifact.name, artifact.version) for artifact in catalog.artifacts] == [("plain", 1)]
    assert catalog.failed.keys() == FAILED.keys()
    for (name, version), reason in catalog.failed.items():
        assert FAILED[name, version] in reason
        assert reason.startswith(str(repository / name / version))
    assert catalog.fallbacks() == {}


def test_a_folder_that_may_not_be_listed_is_failed(
    repository: Path, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place(sound, repository, "secret", "1")
    iterdir = Path.iterdir

    def refuse(self: Path) -> Iterator[Path]:
        if self.name == "secret":
            raise PermissionError(13, "Permission denied", str(self))
        return iterdir(self)

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "Permission denied" in Repository(repository).read("plain").failed["secret", ""]


@pytest.mark.parametrize("newest", ["damaged", "empty", "file"])
def test_a_broken_newest_version_falls_back_to_the_last_good_one(sound: Path, tmp_path: Path, newest: str) -> None:
    for version in ("1", "9"):
        place(sound, tmp_path, "plain", version)
    damage(place(sound, tmp_path, "plain", "10"))
    if newest == "damaged":
        damage(place(sound, tmp_path, "plain", "11"))
    elif newest == "empty":
        (tmp_path / "plain" / "11").mkdir()
    else:
        (tmp_path / "plain" / "11").write_bytes(b"")
    catalog = Repository(tmp_path).read(None)
    assert [(artifact.name, artifact.version) for artifact in catalog.artifacts] == [("plain", 9)]
    assert list(catalog.failed) == [("plain", "11"), ("plain", "10")]
    assert catalog.fallbacks() == {"plain": ["11", "10"]}


@pytest.mark.parametrize("default", ["damaged", "hollow", "empty", "note.onnx"])
def test_a_default_model_without_any_good_version_is_an_error(repository: Path, default: str) -> None:
    with pytest.raises(RepositoryError, match=f"default model cannot be served: .*/{default}"):
        Repository(repository).read(default)


def test_the_only_model_with_a_version_is_the_default(sound: Path, tmp_path: Path) -> None:
    place(sound, tmp_path, "plain", "1")
    (tmp_path / "empty").mkdir()
    catalog = Repository(tmp_path).read(None)
    assert catalog.artifacts[catalog.default].name == "plain"


def test_a_repository_without_any_version_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RepositoryError, match=r"no models in .*empty: no version"):
        list_models(tmp_path)
    with pytest.raises(RepositoryError, match="no directory"):
        list_models(tmp_path / "missing")


def test_a_repository_that_the_system_fails_to_find_is_told_as_one_that_cannot_be_read(tmp_path: Path) -> None:
    """Of a network mount the reason is another; that a folder is there is the first thing that it fails to tell."""
    with pytest.raises(RepositoryError, match="cannot be read: File name too long; it must be a folder"):
        list_models(tmp_path / ("m" * 300))


def test_a_folder_above_or_below_a_repository_is_answered_with_the_repository(sound: Path, tmp_path: Path) -> None:
    version = place(sound, tmp_path / "all" / "mine", "plain", "3")
    (tmp_path / "all" / "notes").mkdir()
    for folder in (tmp_path / "all", version.parent, version):
        with pytest.raises(RepositoryError, match=rf"no models in {folder}, but in {tmp_path}/all/mine: give"):
            list_models(folder)


def test_clients_the_log_and_the_metrics_tell_of_all_that_failed(serve: Servers, repository: Path, sound: Path) -> None:
    damage(place(sound, repository, "plain", "2"))
    served = serve("--model-repository", repository, "--default-model", "plain", "--workers", "1").ready()
    models = httpx.get(served.url + "/models").json()["models"]
    states = {(model["name"], model["version"]): model["state"] for model in models}
    assert states == dict.fromkeys(FAILED, "failed") | {("plain", "1"): "ready", ("plain", "2"): "failed"}
    assert all(model["reason"] for model in models if model["state"] == "failed")
    logged = {(event["model"], event["version"]) for event in served.events("model failed", level="error")}
    assert logged == {*FAILED, ("plain", "2")}
    check_fallback(served)
    assert httpx.get(served.url + "/models/empty").json()["state"] == "failed"
    gauges = served.metrics()
    for (name, version), state in states.items():
        name = name.replace("\\", r"\\")  # as the exposition format has it
        assert gauges[f'resnet_model_state{{model="{name}",state="{state}",version="{version}"}}'] == 1


def test_a_newest_version_that_fails_its_golden_examples_falls_back(serve: Servers, tmp_path: Path) -> None:
    make_artifact(tmp_path, "plain", 1)
    make_artifact(tmp_path, "plain", 2, golden_error=1.0)
    served = serve("--model-repository", tmp_path, "--workers", "1").ready()
    (failed,) = served.events("model failed", level="error")
    assert (failed["model"], failed["version"]) == ("plain", "2")
    assert "logits differ" in failed["reason"]
    check_fallback(served)


def test_a_newest_version_that_loads_is_served(serve: Servers, tmp_path: Path) -> None:
    for version in (1, 2):
        make_artifact(tmp_path, "plain", version)
    served = serve("--model-repository", tmp_path, "--workers", "1").ready()
    assert httpx.post(served.url + "/predict", content=png()).json()["version"] == "2"
    assert not served.events(level="error")


def check_fallback(served: Served) -> None:
    """Version 1 answers for the broken version 2, and the log says so."""
    (event,) = served.events("an older version is served", level="error")
    assert (event["model"], event["version"], event["instead_of"]) == ("plain", 1, ["2"])
    one = httpx.get(served.url + "/models/plain").json()
    assert (one["version"], one["state"]) == ("1", "ready")
    assert httpx.post(served.url + "/predict", content=png()).json()["version"] == "1"


# Read again while it is served


NONE = Selection()


def reread(repository: Path, served: Catalog, selection: Selection = NONE, only: str | None = None) -> Catalog:
    return Repository(repository).read_again(served, selection, only)


def versions(catalog: Catalog) -> dict[str, int]:
    return {artifact.name: artifact.version for artifact in catalog.artifacts}


@pytest.fixture
def serving(sound: Path, tmp_path: Path) -> Path:
    """Two models with a version 3."""
    for name in ("main", "other"):
        place(sound, tmp_path, name, "3")
    return tmp_path


CHANGES: dict[str, tuple[Callable[[Path, Path], object], Selection, dict[str, int], set[tuple[str, str]]]] = {
    "nothing": (lambda *_: None, NONE, {"main": 3, "other": 3}, set()),
    "a newer one": (lambda path, sound: place(sound, path, "other", "4"), NONE, {"main": 3, "other": 4}, set()),
    "an older one": (lambda path, sound: place(sound, path, "other", "2"), NONE, {"main": 3, "other": 3}, set()),
    "a broken newer one": (
        lambda path, sound: damage(place(sound, path, "main", "4")),
        NONE,
        {"main": 3, "other": 3},
        {("main", "4")},
    ),
    "what is served is damaged": (
        lambda path, _: damage(path / "main" / "3"),
        NONE,
        {"main": 3, "other": 3},
        {("main", "3")},
    ),
    "and there is an older one": (
        lambda path, sound: (damage(path / "main" / "3"), place(sound, path, "main", "1")),
        NONE,
        {"main": 3, "other": 3},
        {("main", "3")},
    ),
    "another model": (
        lambda path, sound: place(sound, path, "third", "1"),
        NONE,
        {"main": 3, "other": 3, "third": 1},
        set(),
    ),
    "a model that is gone": (lambda path, _: shutil.rmtree(path / "other"), NONE, {"main": 3}, set()),
    "a model that is emptied": (
        lambda path, _: shutil.rmtree(path / "other" / "3"),
        NONE,
        {"main": 3, "other": 3},
        {("other", "")},
    ),
    "one that is unloaded": (lambda *_: None, NONE.unload("other"), {"main": 3}, set()),
    "one that is pinned": (
        lambda path, sound: [place(sound, path, "other", version) for version in "24"],
        NONE.load("other", 2),
        {"main": 3, "other": 2},
        set(),
    ),
    "one that is deleted": (
        lambda path, sound: place(sound, path, "other", "2"),
        NONE.delete("other", 3),
        {"main": 3, "other": 2},
        set(),
    ),
}


@pytest.mark.parametrize(("change", "selection", "found", "failed"), CHANGES.values(), ids=CHANGES)
def test_what_can_be_read_again_is_served_and_what_cannot_goes_on_as_it_is(
    sound: Path,
    serving: Path,
    change: Callable[[Path, Path], object],
    selection: Selection,
    found: dict[str, int],
    failed: set[tuple[str, str]],
) -> None:
    served = Repository(serving).read("main")
    change(serving, sound)
    catalog = reread(serving, served, selection)
    assert (versions(catalog), set(catalog.failed)) == (found, failed)
    assert catalog[catalog.default].name == "main"


@pytest.mark.parametrize("selection", [NONE, NONE.unload("main"), NONE.delete("main", 3)])
def test_the_default_model_cannot_be_taken_away(serving: Path, selection: Selection) -> None:
    served = Repository(serving).read("main")
    if selection == NONE:
        shutil.rmtree(serving / "main")
    with pytest.raises(RepositoryError, match="main answers /predict and cannot be taken away"):
        reread(serving, served, selection)


def test_one_model_is_read_again_and_the_others_go_on(sound: Path, serving: Path) -> None:
    served = Repository(serving).read("main")
    for name in ("main", "other"):
        place(sound, serving, name, "4")
    assert versions(reread(serving, served, only="other")) == {"main": 3, "other": 4}


def test_what_the_check_refuses_counts_as_unreadable(sound: Path, serving: Path) -> None:
    served = Repository(serving).read("main")
    place(sound, serving, "main", "4")

    def refuse(artifact: Artifact) -> None:
        if artifact.version == 4:
            raise ArtifactError("too large")

    catalog = Repository(serving, refuse).read_again(served, NONE)
    assert versions(catalog)["main"] == 3
    assert catalog.failed == {("main", "4"): "too large"}


def test_the_last_version_is_served_unchecked_at_a_start_and_not_when_another_could_go_on(
    sound: Path, tmp_path: Path
) -> None:
    """At a start there is nothing else: its workers tell what is wrong. Checking it would make each start longer."""
    for version in "12":
        place(sound, tmp_path, "plain", version)
    checked: list[int] = []

    def refuse(artifact: Artifact) -> None:
        checked.append(artifact.version)
        raise ArtifactError("it dies")

    repository = Repository(tmp_path, refuse)
    catalog = repository.read(None)
    assert (versions(catalog), checked) == ({"plain": 1}, [2])
    place(sound, tmp_path, "other", "1")
    again = repository.read_again(catalog, NONE)
    assert versions(again) == {"plain": 1}
    assert again.failed["other", "1"] == "it dies"
