"""The documents that clients read, for OpenAPI; the tests hold real answers against them."""

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ClassProbability(_Document):
    """One class."""

    label: str
    index: int = Field(ge=0)
    probability: float = Field(ge=0, le=1)


class Timings(_Document):
    """Milliseconds that the request spent in each stage."""

    read: float
    decode: float
    queue: float
    inference: float
    respond: float
    total: float


class ImageResult(_Document):
    """What one image shows: the most probable classes, in falling order."""

    predictions: list[ClassProbability]
    batch_size: int = Field(ge=1, description="images that ran together")


class NamedImageResult(ImageResult):
    """What one image of several shows."""

    file: str | None = Field(None, description="its name, where the form gives it one")


class Problem(_Document):
    """What went wrong (RFC 9457)."""

    type: str
    title: str
    status: int
    code: str = Field(description="stable name of the error")
    detail: str
    request_id: str
    reason: str | None = Field(None, description="of a 503: full, draining, loading or worker_lost")


class NamedProblem(Problem):
    """What went wrong with one image of several."""

    file: str | None = Field(None, description="its name, where the form gives it one")


class ServedVersion(_Document):
    """A model that is served."""

    name: str
    version: str


class ChangeDocument(_Document):
    """What a change of the models has led to."""

    changed: bool = Field(description="whether another model or version is served now")
    models: list[ServedVersion] = Field(description="what is served now")


class _Answer(_Document):
    request_id: str
    model: str
    version: str
    timings_ms: Timings


class PredictAnswer(_Answer, ImageResult):
    """Answer to a request with one image."""


class PredictSeveralAnswer(_Answer):
    """Answer to a request with several images, in their order."""

    results: list[NamedImageResult | NamedProblem]


class ModelInput(_Document):
    """What the network takes."""

    height: int
    width: int
    channels: int
    dtype: str


class CandidateDocument(_Document):
    """One way to run a model that was tried at load."""

    candidate: str
    images_per_second: float | None = None
    refused: str | None = Field(None, description="why it may not be used")


class ModelDocument(_Document):
    """One model that is served, or that failed."""

    name: str
    version: str
    state: str = Field(description="ready, loading, failed, or unloaded: loaded when it is asked for")
    reason: str | None = None
    default: bool | None = None
    shadow: bool | None = Field(None, description="it gets copies of images, and answers who names its version")
    architecture: str | None = None
    sha256: str | None = None
    input: ModelInput | None = None
    labels: list[str] | None = None
    metrics: object | None = None
    engine: str | None = None
    device: str | None = None
    precision: str | None = None
    why: str | None = Field(None, description="why it is run so, where there was a choice")
    candidates: list[CandidateDocument] | None = None
    memory_bytes: int | None = Field(None, description="what it takes in one worker, on a CPU")
    max_batch_size: int | None = None
    batch_latency_ms: dict[str, float] | None = None


class ModelsDocument(_Document):
    """Every model."""

    models: list[ModelDocument]
