"""What requests are answered with: one of each in an API process."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from service.auth.cors import Cors
from service.auth.guard import Guard
from service.batching.admission import Admission
from service.batching.batcher import Batcher
from service.batching.decoding import Decoder
from service.batching.outbox import Outbox
from service.catalog.served_model import ModelLookup
from service.config.settings import Settings
from service.prediction.access_log import AccessLog
from service.prediction.deadlines import Deadlines
from service.prediction.model_demand import ModelDemand
from service.prediction.request_metrics import RequestMetrics

if TYPE_CHECKING:  # it imports OpenTelemetry, which need not be installed
    from service.prediction.tracing import Tracing


@dataclass(frozen=True, slots=True)
class Services:
    """What a prediction request needs on its way."""

    settings: Settings
    models: ModelLookup
    admission: Admission
    decoder: Decoder
    batcher: Batcher
    outbox: Outbox
    request_metrics: RequestMetrics
    deadlines: Deadlines
    access_log: AccessLog | None
    tracing: "Tracing | None"
    guard: Guard | None = None
    cors: Cors | None = None
    model_demand: ModelDemand | None = None
