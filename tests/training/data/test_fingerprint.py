import torch

from training.data.dataset import ImageSet
from training.data.fingerprint import differences, fingerprint

PIXELS = torch.randint(0, 256, (6, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 0, 0, 1, 1, 1])
CLASSES = ("cat", "dog")


def _set(*indices, labels=LABELS, pixels=PIXELS):
    chosen = torch.tensor(indices)
    return ImageSet(pixels[chosen], labels[chosen], CLASSES)


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


def test_images_that_change_sides_are_told():
    (told,) = _told([_set(0, 1, 3), _set(2, 4)], [_set(0, 2, 3), _set(1, 4)])
    assert "others would be held back" in told
