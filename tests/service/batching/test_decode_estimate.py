"""What decoding costs: learned by type and size, whatever comes first."""

import threading

import pytest

from service.batching.decode_estimate import DecodeEstimate
from service.batching.decode_memory import DecodeMemory
from service.policy import UNKNOWN_NS_PER_BYTE
from tests.service.served import DEADLINE_S, until

JPEG, PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
MS = 1_000_000


def picture(head: bytes, size: int) -> bytes:
    return head + bytes(size - len(head))


def test_an_image_costs_what_its_type_and_size_have_cost() -> None:
    estimate = DecodeEstimate(1, DecodeMemory(0))
    for _ in range(100):
        estimate.observe(picture(JPEG, 100_000), 10 * MS)
        estimate.observe(picture(PNG, 100_000), 50 * MS)
        estimate.observe(picture(PNG, 1000), MS)
    assert estimate.add(picture(JPEG, 110_000)) == pytest.approx(11 * MS)
    assert estimate.add(picture(PNG, 90_000)) == pytest.approx(45 * MS)
    assert estimate.add(picture(PNG, 900)) == pytest.approx(0.9 * MS)
    assert MS < estimate.add(picture(PNG, 10_000)) < 10 * MS  # between the two sizes that are known


def test_images_that_have_become_dearer_or_cheaper_are_followed() -> None:
    estimate, image = DecodeEstimate(1, DecodeMemory(0)), picture(JPEG, 100_000)
    for ms in (10, 20, 5):
        for _ in range(100):
            estimate.observe(image, ms * MS)
        assert estimate.cost_s([image, image]) == pytest.approx(2 * ms / 1000, rel=0.01)


def test_small_images_alone_do_not_make_a_large_one_dearer_than_where_nothing_is_known() -> None:
    estimate = DecodeEstimate(1, DecodeMemory(0))
    estimate.observe(picture(PNG, 745), 1_500_000)
    large = picture(PNG, 8_600_000)
    assert estimate.cost_ns(large) == len(large) * UNKNOWN_NS_PER_BYTE
    estimate.observe(picture(PNG, 100_000), MS)  # 10 ns a byte
    assert estimate.cost_ns(large) == len(large) * 10
    estimate.observe(large, 400 * MS)
    assert estimate.cost_ns(large) == pytest.approx(400 * MS)


def test_before_anything_is_known_there_is_an_assumption() -> None:
    estimate = DecodeEstimate(2, DecodeMemory(0))
    assert estimate.add(picture(JPEG, 1000)) == 1000 * UNKNOWN_NS_PER_BYTE
    assert estimate.wait_s == pytest.approx(500 * UNKNOWN_NS_PER_BYTE / 1e9)


def test_while_pictures_wait_for_memory_only_those_that_have_it_count_as_decoders() -> None:
    memory = DecodeMemory(10)
    estimate = DecodeEstimate(4, memory)
    cost_ns = estimate.add(picture(JPEG, 1000))
    assert estimate.wait_s == pytest.approx(cost_ns / 4 / 1e9)

    def take() -> None:
        with memory.taken(6):
            pass

    third = threading.Thread(target=take, daemon=True)
    with memory.taken(3), memory.taken(3):
        third.start()
        until(lambda: memory.waiting, "the third to wait")
        estimate.add(picture(JPEG, 1000))
        assert estimate.wait_s == pytest.approx(2 * cost_ns / 2 / 1e9)
    third.join(DEADLINE_S)
    estimate.remove(cost_ns)
    assert estimate.wait_s == pytest.approx(cost_ns / 4 / 1e9)


def test_one_image_that_was_held_up_does_not_sway_the_estimate() -> None:
    estimate = DecodeEstimate(1, DecodeMemory(0))
    for _ in range(20):
        estimate.observe(picture(JPEG, 1000), MS)
    estimate.observe(picture(JPEG, 1000), 10_000 * MS)
    assert estimate.add(picture(JPEG, 1000)) < 2 * MS
