"""Slots, pipes and shared memory between real processes."""

import multiprocessing
import os
from select import PIPE_BUF

import numpy as np

from service.ipc.channels import Channels
from service.ipc.messages import BatchMessage, Reply, unpack_replies
from service.ipc.shared_memory import SharedObject


def child(channels: Channels, shared: SharedObject[list[str]]) -> None:
    """A worker in miniature: what it reads and writes must be what the parent sees."""
    message = BatchMessage.unpack(os.read(channels.requests[0].reader, PIPE_BUF))
    pool = channels.slot_pool
    images = pool.images(message.slots, (2, 3, 1))
    pool.probabilities[list(message.slots)] = images.reshape(len(images), -1).sum(axis=1, keepdims=True)
    channels.shared_state.taken[0, 0] = message.batch
    reply = Reply(0, message.epoch, message.batch, len(shared.load()), 2, len(images), True)
    os.write(channels.replies[0].writer, reply.pack())


def test_slots_and_pipes_work_across_a_forked_process() -> None:
    channels = Channels(workers=1, api_processes=1, slots=4, input_bytes=6, classes=2)
    shared = SharedObject[list[str]]()
    shared.store(["a", "b"])
    process = multiprocessing.get_context("fork").Process(target=child, args=(channels, shared))
    process.start()
    for slot in (1, 3):
        channels.slot_pool.put(slot, np.full((2, 3, 1), slot, np.uint8), 0)
    os.write(channels.requests[0].writer, BatchMessage(0, 0, 9, 42, 1, (3, 1)).pack())
    process.join(60)
    assert process.exitcode == 0
    (reply,) = unpack_replies(os.read(channels.replies[0].reader, PIPE_BUF))
    assert reply == (0, 9, 42, 2, 2, 2, True)
    assert channels.slot_pool.probabilities[:, 0].tolist() == [0, 6, 0, 18]
    assert channels.shared_state.taken[0, 0] == 42
