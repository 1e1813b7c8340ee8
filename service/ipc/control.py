"""What the supervisor and an API process send each other: one line of JSON a message, in the order in which things
happened.
"""

import os
from collections.abc import Callable
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

from service.ipc.pipe import Pipe, write_some
from service.ipc.reports import ModelReport

ModelAction = Literal["load", "promote", "restore", "unload", "delete", "reread"]

_BYTES = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")


@dataclass(frozen=True, slots=True)
class ModelChange:
    """What an operator wants: a model loaded, in this version or the newest, or unloaded, or a version never again.

    `promote` serves a version that is a shadow, and `restore` the one before it, until there is a newer one.
    `reread` is for all models: whatever the repository holds now.
    """

    action: ModelAction
    model: str = ""
    version: int | None = None


@dataclass(frozen=True, slots=True)
class WorkerUp:
    """A worker takes batches, in this epoch of it; with its reports on the models, and how long its start took.

    A `retired` one has models that are served no more: it gets only what was queued for them.
    """

    worker: int
    epoch: int
    reports: tuple[ModelReport, ...]
    start_s: float = 1.0
    retired: bool = False
    kind: Literal["worker_up"] = "worker_up"


@dataclass(frozen=True, slots=True)
class WorkerDown:
    """A worker is dead, by exit, hang or oom: it writes to no slot any more."""

    worker: int
    reason: str = "exit"
    kind: Literal["worker_down"] = "worker_down"


@dataclass(frozen=True, slots=True, config=_BYTES)
class NewModels:
    """These models are served from now on, by these workers; all other workers are retired.

    `catalog` is a pickled one, without the models' files.
    """

    models: int  # number of the set
    catalog: bytes
    workers: tuple[WorkerUp, ...]
    kind: Literal["new_models"] = "new_models"


@dataclass(frozen=True, slots=True)
class ModelMoved:
    """A worker that is up has loaded a model, has failed to, or has it no more."""

    worker: int
    report: ModelReport
    kind: Literal["model_moved"] = "model_moved"


@dataclass(frozen=True, slots=True)
class ModelRefused:
    """This model is not loaded, and will not be for a while, for this reason."""

    model: int
    reason: str
    retry_after_s: float
    kind: Literal["model_refused"] = "model_refused"


@dataclass(frozen=True, slots=True)
class ReleaseModel:
    """Send workers nothing more of this model, which is to be unloaded, unless an image of it is in flight."""

    number: int  # of the question
    model: int
    kind: Literal["release_model"] = "release_model"


@dataclass(frozen=True, slots=True)
class Begin:
    """Everything that was so when this API process started has been sent; it serves this set of models."""

    models: int = 0
    kind: Literal["begin"] = "begin"


@dataclass(frozen=True, slots=True)
class Drain:
    """Stop: not ready from now on, no new connections after `delay_s`, done after `grace_s` at the latest."""

    delay_s: float
    grace_s: float
    kind: Literal["drain"] = "drain"


@dataclass(frozen=True, slots=True)
class ChangeKeys:
    """From now on only these API keys are good: the lines of a file of keys."""

    lines: str
    kind: Literal["change_keys"] = "change_keys"


@dataclass(frozen=True, slots=True)
class ChangeEnded:
    """What became of a change that this API process has asked for: why it was refused, empty if it was not."""

    number: int
    refused: str
    changed: bool
    kind: Literal["change_ended"] = "change_ended"


@dataclass(frozen=True, slots=True)
class AskForChange:
    """An API process asks for a change of the models, and gives it a number of its own."""

    number: int
    change: ModelChange
    kind: Literal["ask_for_change"] = "ask_for_change"


@dataclass(frozen=True, slots=True)
class AskForModel:
    """An API process has a request for a model that is not loaded."""

    model: int
    kind: Literal["ask_for_model"] = "ask_for_model"


@dataclass(frozen=True, slots=True)
class ModelReleased:
    """The answer to `ReleaseModel`; not `released`: this API process has images of the model in flight."""

    number: int
    released: bool
    kind: Literal["model_released"] = "model_released"


@dataclass(frozen=True, slots=True)
class ModelsTaken:
    """An API process takes no request for models of earlier sets; `released`: and no retired worker has one of it."""

    models: int
    released: bool
    kind: Literal["models_taken"] = "models_taken"


@dataclass(frozen=True, slots=True)
class ReloadTls:
    """From now on the certificates in the files are shown."""

    kind: Literal["reload_tls"] = "reload_tls"


CUT_SHORT = 3  # exit code of an API process that had to refuse, at the end of a drain, what it had accepted

ControlMessage = (
    WorkerUp
    | WorkerDown
    | NewModels
    | ModelMoved
    | ModelRefused
    | ReleaseModel
    | Begin
    | Drain
    | ChangeKeys
    | ReloadTls
    | ChangeEnded
    | AskForChange
    | AskForModel
    | ModelReleased
    | ModelsTaken
)
_ADAPTER: TypeAdapter[ControlMessage] = TypeAdapter(Annotated[ControlMessage, Field(discriminator="kind")])


class ControlWriter:
    """Writes messages to a pipe; what it has no room for waits, in its order, until `flush` finds some.

    A process that reads nothing any more is found by its heartbeat, so what waits is bounded.
    """

    def __init__(self, pipe: Pipe) -> None:
        self._writer, self._rest = pipe.writer, bytearray()

    def send(self, message: ControlMessage) -> None:
        """Send a message, after those that wait."""
        self._rest += _ADAPTER.dump_json(message) + b"\n"
        self.flush()

    def flush(self) -> bool:
        """Write as much as can be written now; whether the rest waits for room."""
        written = None
        while self._rest and (written := write_some(self._writer, self._rest)):
            del self._rest[:written]
        return written == 0


class ControlReader:
    """Reads lines from a pipe, and hands over each message, also when another could not be dealt with."""

    def __init__(self, pipe: Pipe, deliver: Callable[[ControlMessage], None]) -> None:
        self._reader, self._deliver = pipe.reader, deliver
        self._parts: list[bytes] = []  # of a line whose end is still to come
        os.set_blocking(self._reader, False)

    def read(self) -> None:
        """Read what is there; ExceptionGroup of what was raised for some of the messages."""
        try:
            *ends, rest = os.read(self._reader, 1 << 16).split(b"\n")
        except BlockingIOError:
            return
        lines = [b"".join([*self._parts, ends[0]]), *ends[1:]] if ends else []
        self._parts = [rest] if ends else [*self._parts, rest]
        errors: list[Exception] = []
        for line in lines:
            try:
                self._deliver(_ADAPTER.validate_json(line))
            except Exception as error:
                errors.append(error)
        if errors:
            raise ExceptionGroup("messages between supervisor and API process", errors)
