"""Slots and pipes between real processes."""

import fcntl
import multiprocessing
import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.ipc.transport import (
    MAX_BATCH_SIZE,
    PIPE_BUF,
    BatchMessage,
    Board,
    Channels,
    Pipe,
    Region,
    Reply,
    SharedObject,
    unpack_replies,
)

U16, U32, U64, I64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64, 63))


@settings(derandomize=True, deadline=None)
@given(U16, U16, U32, U64, U16, st.lists(U32, max_size=MAX_BATCH_SIZE), st.booleans())
def test_a_batch_survives_its_bytes(
    api: int, model: int, epoch: int, batch: int, top_k: int, slots: list[int], alone: bool
) -> None:
    message = BatchMessage(api, model, epoch, batch, top_k, tuple(slots), alone)
    assert BatchMessage.unpack(message.pack()) == message


def test_the_largest_batch_is_written_in_one_piece() -> None:
    assert os.fpathconf(Pipe().writer, "PC_PIPE_BUF") >= PIPE_BUF
    largest = BatchMessage(0, 0, 0, 0, 1, tuple(range(MAX_BATCH_SIZE)))
    assert len(largest.pack()) <= PIPE_BUF
    assert MAX_BATCH_SIZE >= 512  # which the settings allow


@settings(derandomize=True, deadline=None)
@given(st.lists(st.tuples(U32, U32, U64, I64, I64, U16, st.booleans()), max_size=10))
def test_replies_survive_their_bytes(replies: list[tuple[int, int, int, int, int, int, bool]]) -> None:
    data = b"".join(Reply(*fields).pack() for fields in replies)
    assert list(unpack_replies(data)) == replies


def test_one_read_gives_one_message() -> None:
    pipe = Pipe(packets=True)
    for data in (b"one", b"another"):
        os.write(pipe.writer, data)
    assert [os.read(pipe.reader, PIPE_BUF) for _ in range(2)] == [b"one", b"another"]
    pipe.close()


def test_a_full_pipe_does_not_block_whoever_writes() -> None:
    pipe = Pipe(packets=True)
    for _ in range(fcntl.fcntl(pipe.writer, fcntl.F_GETPIPE_SZ) // PIPE_BUF):
        os.write(pipe.writer, bytes(PIPE_BUF))
    with pytest.raises(BlockingIOError):
        os.write(pipe.writer, b"one too many")
    pipe.drain()
    os.write(pipe.writer, b"again")
    assert os.read(pipe.reader, PIPE_BUF) == b"again"
    pipe.close()


def test_untouched_slots_take_no_memory() -> None:
    region = Region(slots=1000, input_bytes=1 << 20, classes=10)
    region.put(3, np.ones((4, 4, 1), np.uint8), 7)
    blocks = os.fstat(region.memory.fd).st_blocks * 512
    assert os.fstat(region.memory.fd).st_size > 1 << 29
    assert 0 < blocks < 1 << 16


def test_fields_of_a_slot_do_not_overlap() -> None:
    region = Region(slots=2, input_bytes=30, classes=3)
    region.put(1, np.arange(30, dtype=np.uint8), 1 << 62)
    region.statuses[1] = -1
    region.logits[1], region.probabilities[1], region.indices[1] = 1.5, 2.5, 7
    assert region.deadlines.tolist() == [0, 1 << 62]
    assert region.statuses.tolist() == [0, -1]
    assert [region.logits[1].tolist(), region.probabilities[1].tolist()] == [[1.5] * 3, [2.5] * 3]
    assert region.indices[1].tolist() == [7] * 3
    assert region.pixels[1].tolist() == list(range(30))
    assert not region.pixels[0].any()


def test_an_image_that_is_larger_than_a_slot_does_not_reach_the_next() -> None:
    region = Region(slots=2, input_bytes=12, classes=2)
    with pytest.raises(ValueError, match="13 bytes of pixels; a slot takes 12"):
        region.put(0, np.full((1, 13, 1), 9, np.uint8), 7)
    assert not region.pixels.any()
    assert region.deadlines.tolist() == [0, 0]


def test_smaller_images_share_slots_with_larger_ones() -> None:
    region = Region(slots=3, input_bytes=12, classes=2)
    small, large = np.full((1, 2, 2), 5, np.uint8), np.full((2, 2, 3), 9, np.uint8)
    region.put(0, large, 0)
    region.put(0, small, 0)
    region.put(2, small * 2, 0)
    batch = region.images([2, 0], (1, 2, 2))
    assert batch.shape == (2, 1, 2, 2)
    assert [int(image.max()) for image in batch] == [10, 5]


def spawned(channels: Channels, shared: SharedObject[list[str]]) -> None:
    """A worker in miniature: what it reads and writes must be what the parent sees."""
    message = BatchMessage.unpack(os.read(channels.requests[0].reader, PIPE_BUF))
    region = channels.region
    images = region.images(message.slots, (2, 3, 1))
    region.logits[list(message.slots)] = images.reshape(len(images), -1).sum(axis=1, keepdims=True)
    channels.board.taken[0, 0] = message.batch
    reply = Reply(0, message.epoch, message.batch, len(shared.load()), 2, len(images), True)
    os.write(channels.replies[0].writer, reply.pack())


def test_slots_and_pipes_work_across_a_spawned_process() -> None:
    channels = Channels(seats=1, api_processes=1, slots=4, input_bytes=6, classes=2)
    process = multiprocessing.get_context("spawn").Process(target=spawned, args=(channels, SharedObject(["a", "b"])))
    process.start()
    for slot in (1, 3):
        channels.region.put(slot, np.full((2, 3, 1), slot, np.uint8), 0)
    os.write(channels.requests[0].writer, BatchMessage(0, 0, 9, 42, 1, (3, 1)).pack())
    process.join(60)
    assert process.exitcode == 0
    (reply,) = unpack_replies(os.read(channels.replies[0].reader, PIPE_BUF))
    assert reply == (0, 9, 42, 2, 2, 2, True)
    assert channels.region.logits[:, 0].tolist() == [0, 6, 0, 18]
    assert channels.board.taken[0, 0] == 42


def test_a_seat_hangs_when_its_batch_outlasts_its_limit() -> None:
    board = Board(seats=2, api_processes=1)
    board.began_ns[1], board.limit_ns[1] = 100, 50
    assert [board.hung(1, now) for now in (150, 151)] == [False, True]
    board.began_ns[1] = 0  # idle
    assert not board.hung(1, 10_000)
    assert not board.hung(0, 10_000)
