"""A trained network: what checkpoints, released models and other people's weights have in common."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

from models.images.preprocessing import Preprocessing
from models.networks import registry
from models.networks.pixel_net import PixelNet
from training.data.dataset import Normalization
from training.errors import WeightsError

HEAD = "fc"
"""Name of the last layer in every network of the registry: it alone depends on the classes."""

_VARIANCE = ".running_var"
"""How the names of batch norm's variances end."""


def in_head(name: str) -> bool:
    """Whether the parameter or buffer of this name belongs to the last layer."""
    return name.startswith(f"{HEAD}.")


def build_network(
    architecture: str,
    arguments: Mapping[str, str],
    classes: int,
    weights: Mapping[str, Tensor],
    is_new: Callable[[str], bool] = lambda _: False,
) -> nn.Module:
    """Build a network of the registry with these weights, but with initial values where a name `is_new`.

    WeightsError if there is no such network, or the weights are not those of one.
    """
    _check_variances(weights)
    try:
        initial = registry.build(architecture, classes=classes, **arguments).state_dict()
        new = {name: value for name, value in initial.items() if is_new(name)}
        return registry.build_with_weights(architecture, {**weights, **new}, classes=classes, **arguments)
    except (registry.ArchitectureError, registry.MisfitError) as error:
        raise WeightsError(f"the weights are not a {architecture}'s: {error}") from error


def _check_variances(weights: Mapping[str, Tensor]) -> None:
    """WeightsError for a variance that is negative or not finite: the outputs may be finite, and wrong."""
    for name, value in weights.items():
        if name.endswith(_VARIANCE) and not (value.isfinite() & (value >= 0)).all():
            raise WeightsError(
                f"{name} has variances that are negative or not finite: the file is damaged, or the training that made "
                "it diverged; give an earlier checkpoint"
            )


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """Weights, the network that they belong to, and what it takes and names."""

    architecture: str
    arguments: dict[str, str]
    labels: tuple[str, ...]
    preprocessing: Preprocessing
    weights: dict[str, Tensor] = field(repr=False)

    @property
    def normalization(self) -> Normalization:
        """Mean and deviation that the weights expect, whatever those of other images are."""
        return Normalization(self.preprocessing.mean, self.preprocessing.std)

    def network(self, labels: tuple[str, ...]) -> nn.Module:
        """Build the network for these labels, with a new last layer if they are others; WeightsError."""
        if labels == self.labels:
            return build_network(self.architecture, self.arguments, len(labels), self.weights)
        return build_network(self.architecture, self.arguments, len(labels), self.weights, in_head)

    def pixel_net(self) -> PixelNet:
        """Return the network behind its normalisation, in evaluation mode; WeightsError."""
        return PixelNet(self.network(self.labels), self.preprocessing).eval()
