"""What the shared server serves, and within which limits."""

from pathlib import Path

from tests.artifacts import make_artifact

MAX_BODY_BYTES = 200_000
MAX_IMAGES = 8
MAX_PIXELS = 1_000_000

COLOUR_SHAPE, COLOUR_LABELS = (12, 12, 3), ("red", "green", "blue")
# Values of the first pixel that make the model `faulty` misbehave.
SLOW, FAILING, NOT_A_NUMBER = 1, 13, 17


def make_repository(path: Path) -> Path:
    """`plain` with two versions, `colour`, `faulty`, and two models that cannot be served."""
    make_artifact(path, "plain", 1, labels=("old", "older"))
    make_artifact(path, "plain", 2)
    make_artifact(path, "colour", shape=COLOUR_SHAPE, labels=COLOUR_LABELS)
    make_artifact(path, "faulty", loops={SLOW: 300}, fails={FAILING}, nans={NOT_A_NUMBER})
    make_artifact(path, "wrong", golden_error=1.0)
    with (make_artifact(path, "damaged") / "model.onnx").open("ab") as model:
        model.write(b"!")
    return path
