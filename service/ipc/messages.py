"""What an API process and a worker send each other: a batch's slots there, one reply for each batch back.

Each message is smaller than PIPE_BUF, so it arrives whole, also where several processes write to one pipe.
"""

import struct
from collections.abc import Iterator
from select import PIPE_BUF
from typing import NamedTuple

WITH_LOGITS = 0xFFFF
"""The `top_k` that asks for the logits beside every class: the largest number that a message has room for."""


class BatchMessage(NamedTuple):
    """Images of one model, from an API process to a worker."""

    api: int
    model: int
    epoch: int  # which of the worker's lives the batch is for
    batch: int
    top_k: int
    slots: tuple[int, ...]
    most: int = 0  # images that may run together, with those of other messages; fewer than there are: none but these

    def pack(self) -> bytes:
        """The message's bytes, at most PIPE_BUF."""
        n = len(self.slots)
        head = _HEAD.pack(self.api, self.model, self.epoch, self.batch, self.top_k, n, self.most)
        return head + struct.pack(f"<{n}I", *self.slots)

    @classmethod
    def unpack(cls, data: bytes) -> "BatchMessage":
        """The message that these bytes hold."""
        api, model, epoch, batch, top_k, n, most = _HEAD.unpack_from(data)
        return cls(api, model, epoch, batch, top_k, struct.unpack_from(f"<{n}I", data, _HEAD.size), most)


class ModelCommand(NamedTuple):
    """From the supervisor to a worker in this epoch: load a model, or unload it, within so many seconds.

    It goes through the pipe of the batches, behind those that are there, as one of an epoch that no worker has.
    """

    epoch: int
    model: int
    load: bool
    seconds: int

    def pack(self) -> bytes:
        """The command's bytes."""
        seconds = min(self.seconds, WITH_LOGITS)
        return BatchMessage(0, self.model, 0, self.epoch, seconds, (), int(self.load)).pack()

    @classmethod
    def of(cls, message: BatchMessage) -> "ModelCommand | None":
        """The command that a message of another epoch is; None if it is none."""
        return None if message.epoch else cls(message.batch, message.model, bool(message.most), message.top_k)


_HEAD = struct.Struct("<HHIQHHH")
MAX_BATCH_SIZE = (PIPE_BUF - _HEAD.size) // 4  # images for which one message has room
PROBE = BatchMessage(api=0, model=0, epoch=0, batch=0, top_k=1, slots=()).pack()
"""Read and thrown away: its epoch is no worker's."""


class Reply(NamedTuple):
    """The images of one message are done; the results are in their slots."""

    worker: int
    epoch: int
    batch: int
    taken_ns: int  # when the worker took the batch up, monotonic clock
    done_ns: int  # when the engine had returned and the results stood in the slots
    batch_size: int  # images that ran together, of all messages
    counts: bool  # whether this message's API process counts the batch in the metrics

    def pack(self) -> bytes:
        """The reply's bytes, of one fixed size."""
        return _REPLY.pack(*self)


_REPLY = struct.Struct("<IIQqqH?")
MAX_REPLIES = PIPE_BUF // _REPLY.size  # that fit into one atomic write
REPLIES_BYTES = (1 << 16) // _REPLY.size * _REPLY.size
"""For one read of replies: whole ones also where a pipe holds more, a MiB if the kernel's pages have 64 KiB."""


def unpack_replies(data: bytes) -> Iterator[Reply]:
    """The replies in what was read from a reply pipe, REPLIES_BYTES at most: writes are atomic, so none is cut."""
    return map(Reply._make, _REPLY.iter_unpack(data))
