"""Every setting of the server: one typed model, from which flags, environment variables, help and documents come."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from models.command_line import command_line, flag
from models.images.decoder import MAX_PIXELS
from models.images.image_type import TYPE_NAMES, USUAL_TYPES
from service.catalog.repository import ZOO
from service.catalog.repository_place import RepositoryPlace
from service.catalog.selection import UNDECIDED, Selection
from service.config.setting_types import (
    MODEL_VALUES,
    CacheDir,
    DeviceName,
    EngineName,
    FetchTimeout,
    Host,
    ImageTypes,
    Origins,
    Positive,
    PrecisionName,
    Rate,
    RootPath,
    Seconds,
    SecondsOrNone,
    ShadowName,
    SigningKey,
    SuccessShare,
    WantsTraces,
    names_models,
)
from service.config.settings_file import SettingsFile
from service.policy import ENDING_S

ENV_PREFIX = "RESNET_SERVE_"
MOST_IN_BATCH = 512  # images


class SettingError(Exception):
    """A setting that cannot be meant as it is; the message says which and what to do."""


class Batching(BaseModel):
    """How one model's images are put together, where it differs from the rest."""

    model_config = ConfigDict(extra="forbid")

    max_batch_size: int | None = Field(None, ge=0, le=MOST_IN_BATCH)
    batch_delay: float | None = Field(None, ge=0, le=1)


class Settings(BaseSettings):
    """Serve image classifiers over HTTP.

    Other commands: `resnet-serve predict --help`, `resnet-serve check --help`, `resnet-serve health --help`,
    `resnet-serve key --help`, `resnet-serve --version`. Each option can also be set in the environment,
    --max-batch-size as RESNET_SERVE_MAX_BATCH_SIZE, and in the file that --config names, as max_batch_size.
    """

    model_config = command_line("resnet-serve", env_prefix=ENV_PREFIX)

    config: Path | None = Field(
        None, description="TOML file of these settings, such as max_batch_size = 8; flags and variables come before it"
    )
    host: Host = Field("127.0.0.1", description="address to listen on; 0.0.0.0 for every interface, :: for IPv6 too")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one and logs it")
    model_repository: RepositoryPlace = Field(
        ZOO,
        description="folder of <model>/<version>/model.onnx, or its s3://, gs://, hf:// or https:// address; default: "
        "the models that ship",
    )
    cache_dir: CacheDir = None
    fetch_timeout: FetchTimeout = 600.0
    require_signature: SigningKey = None
    default_model: str | None = Field(
        None, description="model that answers /predict; default: the only one, or the zoo's mnist-residual"
    )
    poll_repository: SecondsOrNone = Field(
        0.0, description="time between two looks for changes of the repository, in seconds; 0: none but at SIGHUP"
    )
    admin_api: bool = Field(False, description="routes that load, replace and unload models while the server runs")
    shadow: ShadowName | None = Field(
        None,
        description="MODEL/VERSION that gets copies of what the model's served version is asked; metrics tell how far "
        "both agree",
    )
    shadow_share: float = Field(0.1, gt=0, le=1, description="share of the images that --shadow gets a copy of")
    promote_after: int = Field(
        0,
        ge=0,
        description="images after which --shadow is served if it agrees, and not run any more if it is far from that; "
        "0: when asked",
    )
    promote_agreement: float = Field(
        0.99, gt=0, le=1, description="share of them in which both have to find the same class"
    )
    memory_budget: int = Field(
        0,
        ge=0,
        description="most memory that loaded models take in all workers together, in bytes, as measured at load; those "
        "asked for last are loaded, and the others when they are asked for; 0: all are loaded",
    )
    largest_input: int = Field(
        0,
        ge=0,
        le=MAX_PIXELS,
        description="bytes of the largest network input that can be loaded later; 0: as at start",
    )
    most_classes: int = Field(0, ge=0, le=1 << 20, description="most classes of a model loaded later; 0: as at start")
    engine: EngineName = "auto"
    device: DeviceName = "auto"
    precision: PrecisionName = Field(
        "auto",
        description="of the arithmetic; auto is fp32 on a CPU and tf32 on a GPU, fastest is what a trial finds",
    )
    max_accuracy_loss: float = Field(
        0.5, ge=0, le=100, description="points of accuracy that fastest may cost, as the model in 8 bits records them"
    )
    compile: bool = Field(False, description="compile what --engine torch runs: minutes at start (--start-timeout)")
    workers: int = Field(0, ge=0, description="worker processes a device; 0: one a core on a CPU, two on a GPU")
    api_processes: int = Field(
        0, ge=0, description="processes that speak HTTP and decode images; 0: one, on four cores and more two"
    )
    decode_threads: int = Field(
        0, ge=0, description="threads that decode images, an API process; 0: one a core, shared among the processes"
    )
    max_batch_size: int = Field(
        0, ge=0, le=MOST_IN_BATCH, description="most images in one batch; 0: as many as pay, measured at warm-up"
    )
    batch_delay: float = Field(
        0.0, ge=0, le=1, description="time to wait for a batch to fill, in seconds; less before a deadline"
    )
    batching: Annotated[dict[str, Batching], BeforeValidator(names_models)] = Field(
        {}, description=f"other values for single models: {MODEL_VALUES}"
    )
    queue_capacity: Positive = Field(
        1024, description="most images that an API process holds; more are refused with 503"
    )
    max_body_bytes: Positive = Field(16 << 20, description="largest request body, in bytes")
    max_bytes_in_flight: Positive = Field(256 << 20, description="most bytes of request bodies an API process holds")
    max_images_per_request: Positive = Field(64, description="most images in one request")
    max_pixels: int = Field(
        50_000_000,
        gt=0,
        le=MAX_PIXELS,
        description="most pixels of an image that are decoded; a JPEG may be shrunk meanwhile",
    )
    image_types: ImageTypes = Field(
        USUAL_TYPES,
        description=f"which types of image are taken, of {', '.join(TYPE_NAMES)}; heic needs the extra [heic]",
    )
    decode_memory: int = Field(
        0,
        ge=0,
        description="most memory that decoding takes in an API process, in bytes; 0: its part of a quarter of all",
    )
    target_latency: SecondsOrNone = Field(
        0.0, description="requests that would wait for longer are refused with 503, in seconds; 0: by deadline"
    )
    request_timeout: Seconds = Field(10.0, description="deadline of a request that names none, in seconds")
    max_request_timeout: Seconds = Field(60.0, description="latest deadline that a client may name, in seconds")
    header_timeout: Seconds = Field(5.0, description="time for a request's headers to arrive, in seconds")
    body_timeout: Seconds = Field(10.0, description="time without a byte of a request's body, in seconds")
    keep_alive_timeout: Seconds = Field(75.0, description="time an idle connection is kept, in seconds")
    metrics_port: int | None = Field(
        None, ge=0, le=65535, description="port of probes and /metrics, which --port then does not answer"
    )
    admin_port: int | None = Field(
        None, ge=0, le=65535, description="port of what changes the server, likewise; may be --metrics-port"
    )
    admin_host: Host | None = Field(None, description="address of these two ports; default: --host")
    root_path: RootPath = Field(
        "", description="prefix under which a proxy publishes the server, such as /digits; taken away by it or not"
    )
    cors_origins: Origins = Field(
        (), description="origins whose pages may ask from a browser, such as https://example.org; default: none"
    )
    docs: bool = Field(True, description="answer /docs and /openapi.json")
    tls_certificate: Path | None = Field(
        None,
        description="speak TLS: PEM file of the certificate and those between it and its root; SIGHUP reads it again",
    )
    tls_key: Path | None = Field(None, description="PEM file of its private key, likewise")
    tls_client_ca: Path | None = Field(
        None, description="PEM file of roots; clients need a certificate of one of them, but on --metrics-port"
    )
    api_key_file: Path | None = Field(
        None,
        description="who may ask: NAME SCOPE[,SCOPE] SHA256 a line, as resnet-serve key prints; SIGHUP reads it again",
    )
    api_keys: SecretStr | None = Field(None, description="the same lines with ; between them; give it as a variable")
    rate_limit: Rate = Field(
        0.0, description="requests a second that are taken of one key, or of one address without keys; 0: no limit"
    )
    rate_burst: int = Field(
        0, ge=0, le=1_000_000, description="how many of these may come at once; 0: as many as in a second"
    )
    start_timeout: Seconds = Field(120.0, description="time for a worker to load its models, in seconds")
    listen_when_ready: bool = Field(
        False, description="refuse connections to --port until the models are loaded; --metrics-port answers before"
    )
    drain_delay: SecondsOrNone = Field(
        0.0, description="time to serve on after SIGTERM, not ready any more, in seconds; a part of --grace"
    )
    grace: Seconds = Field(
        8.0,
        description=f"time from SIGTERM to exit at the latest, in seconds; {ENDING_S:g} s before, the rest is refused",
    )
    log_format: Literal["auto", "console", "json"] = Field("auto", description="auto: console on a terminal, else json")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level that is logged")
    tracing: WantsTraces = Field(
        False,
        description="export a trace of each prediction request by OTLP over HTTP; needs the extra [tracing], and heeds"
        " OpenTelemetry's variables, such as OTEL_EXPORTER_OTLP_ENDPOINT",
    )
    class_metrics: int = Field(
        1000, ge=0, description="most classes of a model that have metrics of their own; the others count as one"
    )
    access_log: SuccessShare = Field(
        "off",  # type: ignore[assignment]  # becomes None
        description="a line for each request: off, errors, all, or errors and a share of the others, such as 0.01",
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags, which pydantic puts before these, then variables, then the file."""
        del dotenv_settings, file_secret_settings
        return init_settings, env_settings, SettingsFile(settings_cls)

    @property
    def selection(self) -> Selection:
        """What is decided about the models at the start."""
        if self.shadow is None:
            return UNDECIDED
        model, _, version = self.shadow.partition("/")
        return Selection(shadow=(model, int(version)))

    def max_batch_size_of(self, model: str) -> int:
        """Most images in a batch of this model; 0: as many as pay."""
        own = self.batching[model].max_batch_size if model in self.batching else None
        return self.max_batch_size if own is None else own

    def batch_delay_of(self, model: str) -> float:
        """Seconds that an image of this model may wait for others."""
        own = self.batching[model].batch_delay if model in self.batching else None
        return self.batch_delay if own is None else own


_BOUNDS = {
    "max_body_bytes": "max_bytes_in_flight",
    "request_timeout": "max_request_timeout",
    "max_images_per_request": "queue_capacity",
}
"""Settings, and which other one each must not be above."""

_NEEDS = {
    "shadow_share": ("shadow",),
    "promote_after": ("shadow",),
    "promote_agreement": ("promote_after",),
    "admin_host": ("metrics_port", "admin_port"),
    "rate_burst": ("rate_limit",),
}
"""Settings, and which others each has no effect without."""

_DEFAULTS = {name: field.default for name, field in Settings.model_fields.items()}


def fit_together(settings: Settings) -> Settings:
    """The settings, where a default that is above its bound is lowered to it; SettingError if two contradict."""
    lowered = {}
    for name, bound in _BOUNDS.items():
        value, most = getattr(settings, name), getattr(settings, bound)
        if value > most:
            if name in settings.model_fields_set or bound not in settings.model_fields_set:
                raise SettingError(
                    f"{_quote(settings, name)} is above {_quote(settings, bound)}: lower the first or raise the second"
                )
            lowered[name] = most
    given = {name for name in settings.model_fields_set if getattr(settings, name) != _DEFAULTS[name]}
    for name, others in _NEEDS.items():
        if name in given and not given & set(others):
            needs = " or ".join(map(flag, others))
            raise SettingError(f"{flag(name)} without {needs} has no effect: give that, too, or leave it out")
    if settings.drain_delay >= settings.grace - ENDING_S:
        grace = _quote(settings, "grace")
        begins = f"it begins with {_quote(settings, 'drain_delay')}, and " if settings.drain_delay else ""
        raise SettingError(
            f"{grace} leaves nothing for answers: {begins}its last {ENDING_S:g} s are for the end; raise --grace"
        )
    if settings.tls_client_ca and settings.metrics_port and settings.metrics_port == settings.admin_port:
        raise SettingError(
            f"{_quote(settings, 'metrics_port')} is also the --admin-port, which asks for the certificates of "
            "--tls-client-ca, and probes have none: give each a port of its own"
        )
    return settings.model_copy(update=lowered)


def _quote(settings: Settings, name: str) -> str:
    value = getattr(settings, name)
    return f"{flag(name)} {value if isinstance(value, int) else f'{value:g}'}"
