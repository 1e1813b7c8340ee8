"""Batches and replies survive their bytes, and each fits into one atomic write."""

import os
from select import PIPE_BUF

from hypothesis import given
from hypothesis import strategies as st

from service.config.setting_types import MOST_SECONDS
from service.ipc.messages import MAX_BATCH_SIZE, PROBE, BatchMessage, ModelCommand, Reply, unpack_replies
from service.ipc.pipe import Pipe

U16, U32, U64, I64 = (st.integers(0, (1 << bits) - 1) for bits in (16, 32, 64, 63))


@given(U16, U16, U32, U64, U16, st.lists(U32, max_size=MAX_BATCH_SIZE), U16)
def test_a_batch_survives_its_bytes(
    api: int, model: int, epoch: int, batch: int, top_k: int, slots: list[int], most: int
) -> None:
    message = BatchMessage(api, model, epoch, batch, top_k, tuple(slots), most)
    assert BatchMessage.unpack(message.pack()) == message


@given(st.integers(1, (1 << 32) - 1), U16, st.booleans(), U16)
def test_a_command_survives_its_bytes_and_no_worker_takes_it_for_a_batch(
    epoch: int, model: int, load: bool, seconds: int
) -> None:
    message = BatchMessage.unpack(ModelCommand(epoch, model, load, seconds).pack())
    assert ModelCommand.of(message) == (epoch, model, load, seconds)
    assert message.epoch == 0  # which no worker has
    assert ModelCommand.of(message._replace(epoch=epoch)) is None


def test_a_probe_is_no_command_of_any_worker() -> None:
    command = ModelCommand.of(BatchMessage.unpack(PROBE))
    assert command
    assert command.epoch == 0


def test_a_command_may_take_as_long_as_the_settings_allow() -> None:
    seconds = int(MOST_SECONDS)
    command = ModelCommand.of(BatchMessage.unpack(ModelCommand(1, 0, load=True, seconds=seconds).pack()))
    assert command
    assert 12 * 3600 < command.seconds <= seconds


def test_the_largest_batch_is_written_in_one_piece() -> None:
    assert os.fpathconf(Pipe().writer, "PC_PIPE_BUF") >= PIPE_BUF
    largest = BatchMessage(0, 0, 0, 0, 1, tuple(range(MAX_BATCH_SIZE)))
    assert len(largest.pack()) <= PIPE_BUF
    assert MAX_BATCH_SIZE >= 512  # which the settings allow


@given(st.lists(st.tuples(U32, U32, U64, I64, I64, U16, st.booleans()), max_size=10))
def test_replies_survive_their_bytes(replies: list[tuple[int, int, int, int, int, int, bool]]) -> None:
    data = b"".join(Reply(*fields).pack() for fields in replies)
    assert list(unpack_replies(data)) == replies
