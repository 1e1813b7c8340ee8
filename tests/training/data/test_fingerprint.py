import torch

from training.data.dataset import ImageSet
from training.data.fingerprint import differences, fingerprint

PIXELS = torch.randint(0, 256, (6, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
CLASSES = ("cat", "dog")
NAMES = ("cat/0.png", "cat/1.png", "cat/été, 2.png", "dog/3.png", "dog/4.png", "dog/5.png")


def _set(*indices, labels=LABELS, pixels=PIXELS, names=()):
    return ImageSet(pixels, labels, CLASSES, names=names).take(torch.tensor(indices))


def _told(before, now):
    return list(differences([fingerprint(each) for each in before], [fingerprint(each) for each in now], CLASSES))


def test_the_same_images_differ_in_nothing():
    assert _told([_set(0, 1, 3), _set(2, 4)], [_set(0, 1, 3), _set(2, 4)]) == []


def test_what_was_added_removed_or_changed_is_counted_by_class():
    assert _told([_set(0, 1, 3)], [_set(0, 1, 2, 3)]) == ["images of cat: 1 added"]
    assert _told([_set(0, 1), _set(3, 4)], [_set(0, 1), _set(3)]) == ["images of dog: 1 removed"]
    changed = PIXELS.clone()
    changed[1, 0, 0, 0] ^= 1
    assert _told([_set(0, 1, 3)], [_set(0, 1, 3, 4, pixels=changed)]) == [
        "images of cat: 1 changed",
        "images of dog: 1 added",
    ]
    moved = torch.tensor([0, 0, 1, 1, 1, 1])
    assert _told([_set(0, 1, 2, 3)], [_set(0, 1, 2, 3, labels=moved)]) == [
        "images of cat: 1 removed",
        "images of dog: 1 added",
    ]


def test_files_are_named():
    changed = PIXELS.clone()
    changed[0, 0, 0, 0] ^= 1
    assert _told([_set(0, 1, 3, names=NAMES)], [_set(0, 2, 3, 4, 5, pixels=changed, names=NAMES)]) == [
        "images of cat: 1 added (cat/été, 2.png), 1 removed (cat/1.png), 1 changed (cat/0.png)",
        "images of dog: 2 added (dog/4.png, dog/5.png)",
    ]


def test_of_many_files_the_first_are_named():
    many = torch.randint(0, 256, (1_201, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    names = tuple(f"dog/{index:04}.png" for index in range(1_201))
    labels = torch.ones(1_201, dtype=torch.int64)
    (told,) = _told(
        [_set(0, labels=labels, pixels=many, names=names)],
        [_set(*range(1_201), labels=labels, pixels=many, names=names)],
    )
    assert told == "images of dog: 1,200 added (dog/0001.png, dog/0002.png, dog/0003.png, ...)"


def test_a_file_that_lies_elsewhere_is_the_same_and_another_of_equal_ones_is_not_named():
    elsewhere = tuple(f"top/{name}" for name in NAMES)
    assert _told([_set(0, 3, names=NAMES)], [_set(0, 3, 4, names=elsewhere)]) == [
        "images of dog: 1 added (top/dog/4.png)"
    ]
    twins = PIXELS[[0, 0, 0, 0, 0, 0]]
    assert _told([_set(0, 1, 2, pixels=twins, names=NAMES)], [_set(0, 2, pixels=twins, names=NAMES)]) == [
        "images of cat: 1 removed (cat/1.png)"
    ]


def test_images_that_change_sides_are_told():
    (told,) = _told([_set(0, 1, 3), _set(2, 4)], [_set(0, 2, 3), _set(1, 4)])
    assert "others would be held back" in told


def test_of_many_classes_the_first_are_told():
    pixels = torch.zeros(100, 1, 2, 2, dtype=torch.uint8)
    before = ImageSet(pixels, torch.arange(100), tuple(f"c{number}" for number in range(100)))
    now = ImageSet(pixels + 1, before.labels, before.classes)
    told = list(differences([fingerprint(before)], [fingerprint(now)], before.classes))
    assert told[0] == "images of c0: 1 changed"
    assert told[20:] == ["images of 80 more classes"]
