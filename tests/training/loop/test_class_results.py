"""What a confusion says of each class."""

import csv

import torch

from training.loop.class_results import class_results, confusions, write_csv

CONFUSION = torch.tensor([[8, 2, 0, 0], [1, 3, 6, 0], [0, 0, 5, 0], [0, 0, 0, 0]])
LABELS = ("cat", "dog", "wolf, grey", "yeti")


def test_the_least_accurate_class_is_first_and_one_without_images_last():
    found = class_results(CONFUSION, LABELS)
    assert [(each.label, each.images, each.right) for each in found] == [
        ("dog", 10, 3),
        ("cat", 10, 8),
        ("wolf, grey", 5, 5),
        ("yeti", 0, 0),
    ]
    assert [each.taken_for and (each.taken_for.predicted, each.taken_for.images) for each in found] == [
        ("wolf, grey", 6),
        ("dog", 2),
        None,
        None,
    ]


def test_the_most_frequent_confusion_is_first():
    assert [(each.true, each.predicted, each.images) for each in confusions(CONFUSION, LABELS)] == [
        ("dog", "wolf, grey", 6),
        ("cat", "dog", 2),
        ("dog", "cat", 1),
    ]


def test_csv_files_hold_all_of_it(tmp_path):
    write_csv(tmp_path, CONFUSION, LABELS)
    with (tmp_path / "classes.csv").open(newline="") as stream:
        classes = list(csv.DictReader(stream))
    assert classes[0] == {"class": "dog", "images": "10", "right": "3", "accuracy": "0.3000"}
    assert classes[3] == {"class": "yeti", "images": "0", "right": "0", "accuracy": ""}
    with (tmp_path / "confusions.csv").open(newline="") as stream:
        assert sum(int(row["images"]) for row in csv.DictReader(stream)) == 9
