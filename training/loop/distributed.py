"""The processes that train one network together, started by `torchrun`; one process alone is the usual case."""

import os
import re
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch._C._distributed_c10d import GradBucket
from torch.futures import Future
from torch.nn.parallel import DistributedDataParallel

from training.errors import TrainingError
from training.loop.scoring import Score

_DECODING_TIMEOUT = timedelta(days=2)
"""How long processes wait for the one that decodes the pictures, perhaps millions; its death ends them at once."""
_TELLS_LOST = re.compile(r"(closed|reset) by peer|Broken pipe|remote process exited")
"""What errors of gloo and NCCL say if another process is gone; what else fails in them tells of itself."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class TrainingProcesses:
    """This process, number `rank` of `size`; each holds the whole network and computes on its part of each batch.

    `machine` is the group of those on this machine, None if this process is alone.
    """

    rank: int = 0
    size: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009 - cannot change
    machine: dist.ProcessGroup | None = None

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and shows progress."""
        return self.rank == 0

    def part(self, values: Tensor) -> Tensor:
        """Return this process's rows of [n, ...]; all parts together are all rows, and differ by one row at most."""
        return values.tensor_split(self.size)[self.rank]

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes, on the CPU."""
        if self.size > 1:
            values = values.to(self.device, copy=True)
            dist.all_reduce(values)
        return values.cpu()

    def with_exchange(self, network: nn.Module) -> nn.Module:
        """Return the network to call: on several GPUs one whose gradients are summed while they are computed."""
        if self.size == 1 or self.device.type != "cuda":
            return network
        return summing(network)

    def sum_gradients(self, network: nn.Module) -> None:
        """Give each process on a CPU the sum of all gradients, in one exchange; GPUs have exchanged theirs already.

        DistributedDataParallel would lay out its exchange anew after the first step: with three processes and more, a
        resumed run would add in another order than one that was not interrupted, and end with other bits.
        """
        if self.size == 1 or self.device.type == "cuda":
            return
        gradients = [each.grad for each in network.parameters() if each.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        first = 0
        for gradient in gradients:
            gradient.copy_(flat[first : first + gradient.numel()].view_as(gradient))
            first += gradient.numel()

    def broadcast(self, values: Iterable[Tensor]) -> None:
        """Overwrite these with the leading process's: each has statistics of batch norm of its own images."""
        if self.size > 1:
            for value in values:
                dist.broadcast(value, src=0)

    def merge(self, score: Score) -> Score:
        """Return the score on the images of all processes."""
        if self.size == 1:
            return score
        confusion = self.total(score.confusion)
        loss = self.total(torch.tensor(score.loss * int(score.confusion.sum()), dtype=torch.float64))
        return Score(loss.item() / int(confusion.sum()), confusion)

    def agree(self, number: signal.Signals | None) -> signal.Signals | None:
        """Return the signal that any of the processes has been sent, so that all stop after the same step."""
        if self.size == 1:
            return number
        highest = torch.tensor(number or 0, device=self.device)
        dist.all_reduce(highest, dist.ReduceOp.MAX)
        return signal.Signals(int(highest)) if highest else None

    def make_once(self, make: Callable[[], _T]) -> _T:
        """Return, in each process of this machine, what its first one makes, never None, and pickles; the others wait.

        If it cannot, it alone raises the TrainingError that says why; the others exit.
        """
        if self.machine is None:
            return make()
        made: list[_T | None] = [None]
        try:
            if dist.get_rank(self.machine) == 0:
                made[0] = make()
        except TrainingError:
            _hand_out(made, self.machine)
            raise
        _hand_out(made, self.machine)
        if made[0] is None:
            raise SystemExit(1)
        return made[0]


def summing(network: nn.Module) -> DistributedDataParallel:
    """Wrap a network so that each process gets the sum of all gradients, exchanged while `backward` goes on."""
    wrapped = DistributedDataParallel(network, forward_sync_buffers=False)
    wrapped.register_comm_hook(None, _sum_bucket)
    return wrapped


def _sum_bucket(_: object, bucket: GradBucket) -> Future[Tensor]:
    """The sum instead of DistributedDataParallel's mean: the parts of a batch weigh by their images already."""
    summed: Future[Tensor] = dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda f: f.value()[0])
    return summed


def _hand_out(made: list[_T | None], machine: dist.ProcessGroup) -> None:
    dist.broadcast_object_list(made, group=machine, group_src=0)
    dist.barrier(machine)  # a file without a name can be opened only while the first process holds it


@contextmanager
def joined(device: torch.device) -> Iterator[TrainingProcesses]:
    """Meet the other processes, if `torchrun` started this one, and leave them at the end.

    TrainingError if one of them is gone.
    """
    if not dist.is_torchelastic_launched():
        yield TrainingProcesses(device=device)
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        machine, _ = dist.new_subgroups(local()[1], backend="gloo", timeout=_DECODING_TIMEOUT)
        yield TrainingProcesses(dist.get_rank(), dist.get_world_size(), device, machine)
    except RuntimeError as error:
        if not _TELLS_LOST.search(str(error)):
            raise
        raise TrainingError(
            "another process of the run has ended: it has told why, or the system's log does; once that is mended the "
            "same command with --resume goes on from the last checkpoint"
        ) from error
    finally:
        dist.destroy_process_group()


def leads() -> bool:
    """Return whether this is the first of all processes, before they have met."""
    return int(os.environ.get("RANK", "0")) == 0


def local() -> tuple[int, int]:
    """Return this process's number among those on this machine, and how many there are."""
    return int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
