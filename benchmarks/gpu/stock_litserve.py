"""LitServe as its documentation has it, with PyTorch on the GPU in bf16, channels last; images as multipart.

python -m benchmarks.gpu.stock_litserve --port 8000 [--workers 4] [--api-servers 4]
"""

import os
from pathlib import Path

import litserve as ls
import torch
from PIL import Image
from safetensors.torch import load
from torch import Tensor

from benchmarks.serving.peers.litserve_command import serve
from models.artifact.artifact import read_artifact
from models.networks import registry


class TorchClassifier(ls.LitAPI):  # type: ignore[misc]
    """One image in the form field `image`; its five best classes as JSON."""

    def setup(self, device: str) -> None:
        """Load the model, in the worker."""
        from torchvision.transforms import v2

        artifact = read_artifact(Path(os.environ["PEER_MODEL"]).parent)
        self.device, self.dtype = device, torch.bfloat16 if device.startswith("cuda") else torch.float32
        network = registry.build(artifact.metadata.architecture)
        network.load_state_dict(load(artifact.weights or b""))
        self.network = network.eval().to(device, self.dtype).to(memory_format=torch.channels_last)
        side, _, _ = artifact.input_shape
        self.transform = v2.Compose(
            [
                v2.PILToTensor(),
                v2.Resize(side * 8 // 7, antialias=True),
                v2.CenterCrop(side),
                v2.ToDtype(torch.float32, scale=True),
                v2.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
            ]
        )

    # These two without annotations, as in the documentation: LitServe would make FastAPI validate by them.
    def decode_request(self, request):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Decode the form field."""
        return self.transform(Image.open(request["image"].file).convert("RGB"))

    def batch(self, inputs: list[Tensor]) -> Tensor:
        """Make one tensor of a batch, on the GPU."""
        return torch.stack(inputs).to(self.device, self.dtype, memory_format=torch.channels_last, non_blocking=True)

    @torch.inference_mode()
    def predict(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Classify a batch."""
        values, places = self.network(x).float().softmax(1).topk(5)
        return values, places

    def unbatch(self, output: tuple[Tensor, Tensor]) -> list[tuple[list[float], list[int]]]:
        """Take the answers apart."""
        values, places = (part.cpu().tolist() for part in output)
        return list(zip(values, places, strict=True))

    def encode_response(self, output):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN201
        """Make the JSON document."""
        return {"predictions": [{"label": f"class {i}", "probability": p} for p, i in zip(*output, strict=True)]}


if __name__ == "__main__":
    serve(lambda wait_s: TorchClassifier(max_batch_size=64, batch_timeout=wait_s), os.environ["PEER_DEVICE"], 5.0)
