"""The documents of the Open Inference Protocol, for OpenAPI; the tests hold real answers against them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=0)]


class _InferenceDocument(BaseModel):
    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class InferenceError(_InferenceDocument):
    """What went wrong."""

    error: str


class ServerMetadata(_InferenceDocument):
    """The server and what it knows beside the protocol itself."""

    name: str
    version: str
    extensions: list[str]


class Liveness(_InferenceDocument):
    """Whether the process answers."""

    live: bool


class Readiness(_InferenceDocument):
    """Whether the default model can take work now."""

    ready: bool


class ModelReadiness(Readiness):
    """Whether a model can take work now."""

    name: str


class TensorMetadata(_InferenceDocument):
    """A tensor that a model takes or gives; -1 is any number of images."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(_InferenceDocument):
    """A model's tensors."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class ConfiguredTensor(_InferenceDocument):
    """A tensor of one image, in the words of Triton's model configuration."""

    name: str
    data_type: str
    dims: list[int]


class ModelConfiguration(_InferenceDocument):
    """What clients of Triton may want to know of a model beside its metadata."""

    name: str
    platform: str
    max_batch_size: Count = Field(description="images in one request; those of several requests run together")
    input: list[ConfiguredTensor]
    output: list[ConfiguredTensor]


class Duration(_InferenceDocument):
    """How often something was counted, and nanoseconds together."""

    count: Count
    ns: Count


class InferenceDurations(_InferenceDocument):
    """Requests by how they ended, and the stages of those that ended well."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(_InferenceDocument):
    """The batches of one size; their input and output take no time of their own."""

    batch_size: Count
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ModelStatistics(_InferenceDocument):
    """What was counted of one model, in all its versions, since the server's start."""

    name: str
    version: str
    last_inference: Count = Field(
        description="when the last batch ended, in milliseconds since 1970; 0 if there was none"
    )
    inference_count: Count = Field(description="images that ran")
    execution_count: Count = Field(description="batches that ran")
    inference_stats: InferenceDurations
    response_stats: dict[str, Any]
    batch_stats: list[BatchStatistics]
    memory_usage: list[Any]


class Statistics(_InferenceDocument):
    """What was counted of one model, or of every one."""

    model_stats: list[ModelStatistics]


class RepositoryEntry(_InferenceDocument):
    """A model of the repository, served or not."""

    name: str
    version: str
    state: Literal["READY", "LOADING", "UNAVAILABLE"]
    reason: str


class RepositoryIndexRequest(_InferenceDocument):
    """Which models are asked for."""

    ready: bool = Field(False, description="only those that are ready")


class RepositoryParameters(_InferenceDocument):
    """What Triton's clients may send with a change of models."""

    unload_dependents: bool = Field(False, description="no model here depends on another")


class RepositoryRequest(_InferenceDocument):
    """To load or unload a model."""

    parameters: RepositoryParameters = RepositoryParameters()


class OutputData(_InferenceDocument):
    """A tensor of the answer."""

    name: Literal["logits"]
    datatype: Literal["FP32", "BYTES"] = Field(description="BYTES are classes, each as logit:index:label")
    shape: Annotated[list[int], Field(min_length=2, max_length=2)]
    data: list[float] | list[str]


class InferenceAnswer(_InferenceDocument):
    """What the model found in the images; its data may come behind it (binary tensor data extension)."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputData]
