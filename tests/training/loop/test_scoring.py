import pytest
import torch
from scipy.stats import binom
from sklearn.metrics import accuracy_score, confusion_matrix, log_loss
from torch import nn

from training.data.dataset import ImageSet, Normalization
from training.loop.scoring import score_network, standard_error

IDENTITY = Normalization(mean=(0.0,), std=(1 / 255,))  # divides by one


def test_score_is_scikit_learns_over_several_batches():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 8, (1234, 1, 2, 2), dtype=torch.uint8, generator=generator)
    labels = torch.randint(0, 4, (1234,), generator=generator)
    network = nn.Flatten()  # four pixels, four classes: the image is its own logits
    score = score_network(network, ImageSet(images, labels, tuple("abcd")), IDENTITY)
    logits = images.flatten(1).double()
    assert score.confusion.tolist() == confusion_matrix(labels, logits.argmax(1)).tolist()
    assert score.accuracy == accuracy_score(labels, logits.argmax(1))
    assert abs(score.loss - log_loss(labels, logits.softmax(1))) < 1e-6


def test_network_is_judged_as_it_will_be_used():
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(4))
    before = network[2].running_mean.clone()
    images = ImageSet(torch.randint(0, 9, (64, 1, 2, 2), dtype=torch.uint8), torch.zeros(64).long(), tuple("abcd"))
    first, second = score_network(network, images, IDENTITY), score_network(network, images, IDENTITY)
    assert first.loss == second.loss
    assert torch.equal(network[2].running_mean, before)


def test_the_standard_error_is_the_binomial_one_and_not_0_where_all_of_few_are_right():
    assert standard_error(0.9, 10_000) == pytest.approx(binom.std(10_000, 0.9) / 10_000, rel=1e-3)
    assert standard_error(1.0, 8) == pytest.approx(standard_error(0.0, 8)) == pytest.approx((0.9 * 0.1 / 8) ** 0.5)


def test_large_images_are_scored_few_at_a_time():
    sizes = []

    class Seen(nn.Flatten):
        def forward(self, images):
            sizes.append(len(images))
            return super().forward(images)[:, :4]

    images = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(90, 1, 224, 224)
    score_network(Seen(), ImageSet(images, torch.zeros(90).long(), tuple("abcd")), IDENTITY)
    assert sizes == [41, 41, 8]
