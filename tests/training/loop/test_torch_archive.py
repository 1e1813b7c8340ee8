import io
import warnings

import pytest
import torch

from training.loop.torch_archive import damaged_record

WEIGHTS = {"fc.weight": torch.arange(81.0).view(9, 9)}


def _saved(**options):
    stream = io.BytesIO()
    torch.save(WEIGHTS, stream, **options)
    return stream.getvalue()


def _load(data):
    with warnings.catch_warnings(action="ignore"):  # of protocols that are damage
        return torch.load(io.BytesIO(data), weights_only=True)


@pytest.mark.parametrize("options", [{}, {"_use_new_zipfile_serialization": False}])
def test_whole_files_are_whole(options):
    assert damaged_record(_saved(**options)) is None


def test_no_byte_that_is_another_makes_other_weights_unnoticed():
    whole, silent, noticed = _saved(), [], 0
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        try:
            content = _load(bytes(data))
        except Exception:  # torch has noticed, by an error of any class
            continue
        is_other = content.keys() != WEIGHTS.keys() or not torch.equal(content["fc.weight"], WEIGHTS["fc.weight"])
        is_noticed = damaged_record(bytes(data)) is not None
        noticed += is_other and is_noticed
        silent += [place] if is_other and not is_noticed else []
    assert silent == []
    assert noticed > 300, "torch itself notices none of those"
