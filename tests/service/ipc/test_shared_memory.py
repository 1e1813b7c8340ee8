"""Files in memory that processes inherit: which a child has, by what the kernel lists."""

import gc
import os
from multiprocessing.connection import Connection

import pytest

from service.ipc.shared_memory import SharedObject, SharedSequence, close_inherited
from service.process.side_process import side_process
from tests.service.served import DEADLINE_S, memory_files


def give_up_all_but(writer: Connection, keep: SharedSequence[str] | None) -> None:
    before = memory_files(os.getpid())
    close_inherited(keep)
    writer.send((before - memory_files(os.getpid()), keep and list(keep)))


def test_a_process_that_was_forked_gives_up_what_it_inherited_and_its_parent_keeps_it() -> None:
    names, digits, answer = SharedSequence[str](), SharedSequence[int](), SharedObject[int]()
    names.store(["a", "b"])
    digits.store([1, 2])
    answer.store(42)
    gc.collect()  # what other tests have left goes now, not between the two that follow
    given_up: list[int] = []
    for keep, kept in (names, ["a", "b"]), (None, None):
        with side_process("fork", give_up_all_but, keep) as (_, reader):
            assert reader.poll(DEADLINE_S)
            count, seen = reader.recv()
            assert seen == kept
            given_up.append(count)
    assert given_up[0] >= 2  # others that are still open here are given up, too
    assert given_up[1] == given_up[0] + 1
    assert (list(names), list(digits), answer.load()) == (["a", "b"], [1, 2], 42)
    for file in (names, digits, answer):
        file.close()


@pytest.mark.parametrize("values", [[], ["a"], ["a", "", "c" * 1000]], ids=["none", "one", "three"])
def test_a_sequence_is_read_as_a_list_is(values: list[str]) -> None:
    shared = SharedSequence[str]()
    shared.store(values)
    assert len(shared) == len(values)
    assert list(shared) == values
    for index in range(-len(values), len(values)):
        assert shared[index] == values[index]
    for index in (-len(values) - 1, len(values)):
        with pytest.raises(IndexError):
            shared[index]
    assert (shared[1:], shared[::-1]) == (values[1:], values[::-1])
    shared.close()


def test_what_was_given_up_closes_nothing_that_came_later() -> None:
    shared = SharedObject[int]()
    shared.store(42)
    shared.close()
    later = os.open(os.devnull, os.O_RDONLY)  # which has the number that is free
    shared.close()
    os.close(later)
