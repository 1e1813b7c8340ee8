"""ONNX files of networks that this project does not know, imported, and compared with PyTorch.

    python -m benchmarks.onnx_imports

The networks are torchvision's and timm's, untrained, but with weights and batch statistics that are not those of fresh
ones. Untrained networks give nearly the same logits to all pictures, so each is without what the compared pictures have
in common: what differs from picture to picture decides the class, and most classes are the answer to some. Each is
exported for a single picture, as `torch.onnx.export` does unless it is told otherwise. Exit code 1 if a class differs.
Writes benchmarks/results/onnx_imports.json.
"""

import argparse
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from numpy.typing import NDArray
from torch import nn

from benchmarks.result_file import write_result
from benchmarks.surroundings import training_surroundings
from models.artifact.artifact import read_artifact
from models.engines.loader import load_engine
from models.images.preprocessing import Preprocessing
from training.commands.import_onnx import OnnxImport, import_onnx
from training.data.preprocessing_spec import spec_of_files
from training.onnx_import.pictures import make_pictures
from training.onnx_import.proof import served_pixels
from training.options import ImportOptions
from training.stages import Stages

SIDE, CLASSES = 64, 10
LABELS = tuple(f"class {index}" for index in range(CLASSES))
MEAN, STD = (0.5, 0.45, 0.4), (0.25, 0.2, 0.3)


_FROM_TORCHVISION = partial(torchvision.models.get_model, weights=None)
_FROM_TIMM = partial(timm.create_model, pretrained=False)

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "torchvision resnet18": partial(_FROM_TORCHVISION, "resnet18"),
    "torchvision mobilenet_v2": partial(_FROM_TORCHVISION, "mobilenet_v2"),
    "torchvision mobilenet_v3_small": partial(_FROM_TORCHVISION, "mobilenet_v3_small"),
    "torchvision efficientnet_b0": partial(_FROM_TORCHVISION, "efficientnet_b0"),
    "torchvision densenet121": partial(_FROM_TORCHVISION, "densenet121"),
    "torchvision vision transformer": partial(
        torchvision.models.VisionTransformer, SIDE, 16, num_layers=3, num_heads=4, hidden_dim=64, mlp_dim=128
    ),
    "torchvision swin transformer": partial(
        torchvision.models.SwinTransformer, [4, 4], 24, depths=[2, 2], num_heads=[2, 4], window_size=[4, 4]
    ),
    "torchvision shufflenet_v2_x0_5": partial(_FROM_TORCHVISION, "shufflenet_v2_x0_5"),
    "torchvision squeezenet1_1": partial(_FROM_TORCHVISION, "squeezenet1_1"),
    "torchvision regnet_y_400mf": partial(_FROM_TORCHVISION, "regnet_y_400mf"),
    "torchvision googlenet": partial(_FROM_TORCHVISION, "googlenet", aux_logits=False, init_weights=False),
    "torchvision mnasnet0_5": partial(_FROM_TORCHVISION, "mnasnet0_5"),
    "timm vit_tiny_patch16_224": partial(_FROM_TIMM, "vit_tiny_patch16_224", img_size=SIDE),
    "timm convnext_atto": partial(_FROM_TIMM, "convnext_atto"),
    "timm efficientnet_lite0": partial(_FROM_TIMM, "efficientnet_lite0"),
    "timm ghostnet_050": partial(_FROM_TIMM, "ghostnet_050"),
    "timm mobilevit_xxs": partial(_FROM_TIMM, "mobilevit_xxs"),
    "timm edgenext_xx_small": partial(_FROM_TIMM, "edgenext_xx_small"),
    "timm xcit_nano_12_p16_224": partial(_FROM_TIMM, "xcit_nano_12_p16_224", img_size=SIDE),
    "timm lcnet_050": partial(_FROM_TIMM, "lcnet_050"),
    "timm tinynet_e": partial(_FROM_TIMM, "tinynet_e"),
    "timm repvgg_a0": partial(_FROM_TIMM, "repvgg_a0"),
    "timm resnet14t": partial(_FROM_TIMM, "resnet14t"),
    "timm hardcorenas_a": partial(_FROM_TIMM, "hardcorenas_a"),
}


class Centred(nn.Module):
    """A network's logits [n, CLASSES] without their mean [CLASSES]."""

    def __init__(self, network: nn.Module, mean: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("mean", mean)

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        """Logits of pictures [n, 3, SIDE, SIDE]."""
        logits: torch.Tensor = self.network(pictures) - self.mean
        return logits


def make_network(name: str) -> nn.Module:
    """The network, which answers different pictures with different classes."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = NETWORKS[name](num_classes=CLASSES)
        settle(made)
    logits = pytorch_logits(made.eval(), compared_pixels(spec_of_files(3, SIDE)))
    return Centred(made, torch.from_numpy(logits).mean(0)).eval()


def compared_pixels(spec: Preprocessing) -> NDArray[np.uint8]:
    """The pictures on which imports are proved, as pixels [n, SIDE, SIDE, 3]."""
    return served_pixels(spec, [picture.data for picture in make_pictures(SIDE, SIDE)])


def settle(made: nn.Module) -> None:
    """Let batch norms see pictures, and give what starts at zero (heads, layer scales) other values."""
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    with torch.no_grad():
        for parameter in made.parameters():
            if parameter.ndim > 1 and not parameter.any():
                nn.init.normal_(parameter, std=0.1)
            elif parameter.ndim == 1 and parameter.numel() > 1 and float(parameter.abs().max()) < 1e-3:
                nn.init.uniform_(parameter, -0.2, 0.2)
        made.train()(torch.randn(8, 3, SIDE, SIDE) * 2)


def export(made: nn.Module, path: Path, *, dynamo: bool) -> Path:
    """Write the file for batches of one picture, by torch.export or by TorchScript, which is quicker."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that TorchScript is the old way, and of what is traced
        torch.onnx.export(made, (torch.zeros(1, 3, SIDE, SIDE),), path, dynamo=dynamo, verbose=False)
    return path


def pytorch_logits(made: nn.Module, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """What the network answers in PyTorch to pixels [n, h, w, c], normalised by PyTorch."""
    levels = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    with torch.inference_mode():
        logits: NDArray[np.float32] = made((levels - mean) / std).numpy()
    return logits


def import_file(file: Path, repository: Path) -> OnnxImport:
    """Import it as `resnet-train import` does."""
    mean, std = (",".join(map(str, values)) for values in (MEAN, STD))
    options = ImportOptions(
        source=str(file), repository=repository, name="theirs", labels=",".join(LABELS), mean=mean, std=std
    )
    return import_onnx(options, Stages())


def measure(name: str, folder: Path, *, dynamo: bool) -> dict[str, Any]:
    """How the imported file answers beside PyTorch on the pictures that imports are proved on."""
    made = make_network(name)
    done = import_file(export(made, folder / "net.onnx", dynamo=dynamo), folder)
    artifact = read_artifact(done.directory)
    pixels = compared_pixels(artifact.metadata.preprocessing)
    expected, found = pytorch_logits(made, pixels), load_engine(artifact).run(pixels)
    return {
        "network": name,
        "exporter": "torch.export" if dynamo else "TorchScript",
        "batches": done.batching,
        "pictures": len(pixels),
        "same_class_as_pytorch": int((expected.argmax(1) == found.argmax(1)).sum()),
        "classes_among_answers": len(set(expected.argmax(1).tolist())),
        "largest_difference": float(f"{np.abs(expected - found).max() / np.abs(expected).max():.1e}"),
    }


def main() -> None:
    """Measure, write and print; exit code 1 if an answer is another class than PyTorch's."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    rows = []
    for name in NETWORKS:
        for dynamo in (False, True):
            with TemporaryDirectory() as folder:
                rows.append(measure(name, Path(folder), dynamo=dynamo))
            print(json.dumps(rows[-1]), flush=True)
    document = training_surroundings(
        "python -m benchmarks.onnx_imports", ("torch", "torchvision", "timm", "onnx", "onnxruntime")
    )
    write_result("onnx_imports", document | {"side": SIDE, "imports": rows})
    raise SystemExit(any(row["same_class_as_pytorch"] < row["pictures"] for row in rows))


if __name__ == "__main__":
    main()
