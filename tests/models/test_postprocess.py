"""Against SciPy's softmax, and a sort of the whole row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from scipy import special

from models.postprocess import most_probable, softmax

FEW, MANY = 10, 1000
LOGITS = npst.arrays(
    np.float32,
    st.tuples(st.integers(1, 6), st.sampled_from([1, FEW, MANY])),
    elements=st.floats(-1e4, 1e4, width=32),
)


@given(LOGITS)
def test_probabilities_are_scipys(logits: np.ndarray) -> None:
    probabilities = softmax(logits)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, special.softmax(logits.astype(np.float64), axis=1), rtol=1e-5, atol=1e-30)


@given(LOGITS, st.integers(1, MANY))
def test_the_classes_are_the_first_of_a_full_sort(logits: np.ndarray, k: int) -> None:
    k = min(k, logits.shape[1])
    found = most_probable(logits, k)
    assert found.shape == (len(logits), k)
    for row, classes in zip(logits.tolist(), found.tolist(), strict=True):
        assert len(set(classes)) == k
        assert [row[one] for one in classes] == sorted(row, reverse=True)[:k]


@given(npst.arrays(np.float32, st.tuples(st.integers(1, 6), st.sampled_from([FEW, MANY])), elements=st.integers(-2, 2)))
def test_of_equal_logits_the_first_class_comes_first(logits: np.ndarray) -> None:
    """As `argmax` has it, by which accuracies are measured; networks in 8 bits often have equal ones."""
    assert most_probable(logits, 1)[:, 0].tolist() == logits.argmax(1).tolist()
    for row, classes in zip(logits, most_probable(logits, 5).tolist(), strict=True):
        assert classes == sorted(range(len(row)), key=lambda one: (-row[one], one))[:5]


@pytest.mark.parametrize("classes", [FEW, MANY])
def test_the_classes_of_different_logits_are_unambiguous(classes: int) -> None:
    order = np.random.default_rng(classes).permutation(classes)
    logits = np.empty((1, classes), np.float32)
    logits[0, order] = np.arange(classes, 0, -1)
    for k in (1, 3, classes):
        assert most_probable(logits, k)[0].tolist() == order[:k].tolist()
