"""TF32: ten bits of a mantissa instead of 23 for what is called fp32, on GPUs that have it."""

import torch


def allow_tf32(allowed: bool) -> None:
    """Allow it in the whole process, or forbid it; PyTorch's own default is to convolve in it, and not to multiply."""
    # Not `fp32_precision`: once it is set, PyTorch fails where its own parts still read these.
    torch.backends.cudnn.allow_tf32 = allowed
    torch.backends.cuda.matmul.allow_tf32 = allowed
