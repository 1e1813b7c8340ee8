import pytest
import torch

from training.data.class_names import differences_of_classes
from training.data.dataset import ImageSet, renamed
from training.errors import DataError

THOUSAND = tuple(f"{number:03}" for number in range(1000))


def test_only_classes_that_differ_are_told():
    assert list(differences_of_classes(THOUSAND, (*THOUSAND[:-1], "oak"))) == ["classes: 1 new (oak), 1 missing (999)"]
    assert list(differences_of_classes(THOUSAND, THOUSAND[:-1])) == ["classes: 1 missing (999)"]
    assert list(differences_of_classes(THOUSAND, THOUSAND)) == []


def test_of_many_the_first_are_told_and_how_many_there_are():
    (told,) = differences_of_classes(("oak",), THOUSAND)
    assert told == "classes: 1,000 new (000, 001, 002, 003, 004, 005, 006, 007 and 992 more), 1 missing (oak)"


def test_another_order_of_the_same_classes_is_told():
    (told,) = differences_of_classes(("1", "2", "10"), ("1", "10", "2"))
    assert told == "classes: the same in another order: number 1 was 2, now it is 10"


def test_images_of_unknown_classes_are_refused_without_a_list_of_all_that_are_known():
    images = ImageSet(torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 1]), ("000", "oak"))
    with pytest.raises(DataError, match=r"images of oak; known are 000, .*, 007 and 992 more: move"):
        renamed(images, THOUSAND, "the data")
