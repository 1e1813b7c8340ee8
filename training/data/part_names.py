"""What folders beside each other are called: parts of a data set, and what is none of its images."""

import re
from typing import Literal

Part = Literal["train", "val", "test"]

_WORDS: dict[str, Part] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "validate": "val",
    "dev": "val",
    "eval": "val",
    "evaluation": "val",
    "test": "test",
    "testing": "test",
}

_AROUND = "seg|segmentation|data|dataset|set|split|images?|imgs?|pictures?|photos?|pics|labels?|samples?|files|folder"
"""Words around a part's: seg_train, training_set, TestImages, train-data."""

_GAP = r"[\W\d_]*"

_NAMED = re.compile(
    rf"{_GAP}(?:(?:{_AROUND}){_GAP})*({'|'.join(sorted(_WORDS, key=len, reverse=True))}){_GAP}(?:(?:{_AROUND}){_GAP})*"
)

_STRANGER = re.compile(
    r"(seg_)?(runs?|logs?|wandb|mlruns|lightning_logs|tensorboard|checkpoints?|ckpt|weights|models?|outputs?|results?|"
    r"annotations?|labels?|masks?|meta(data)?|docs?|notebooks?|scripts?|src|code|cache|te?mp|backup|venv|env|"
    r"node_modules|samples?|examples?|previews?|preds?|predict(ions?)?|submissions?|unlabell?ed|unknown)[\W\d_]*"
)
"""Name, in lower case, of a folder that stands beside the data: what tools leave, and pictures without a class."""


def part_named(name: str) -> Part | None:
    """Return the part that a folder or file of this name holds, such as Training, seg_test or val2017; else None."""
    match = _NAMED.fullmatch(name.lower())
    return _WORDS[match[1]] if match else None


def is_stranger(name: str) -> bool:
    """Whether a folder of this name is usually none of the data's, such as runs or annotations."""
    return _STRANGER.fullmatch(name.lower()) is not None
