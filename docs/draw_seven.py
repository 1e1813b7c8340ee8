"""Draws `seven.png`, the picture that the README classifies: `.venv/bin/python docs/draw_seven.py`.

A dark stroke on light paper, larger than the network's input and not square: what a person would send.
"""

from pathlib import Path

from PIL import Image, ImageDraw

PAPER, INK = 255, 0
STROKE = [(68, 86), (172, 80), (112, 248)]
PEN = 24


def draw() -> Image.Image:
    """A grey picture of a seven, 240 x 320."""
    image = Image.new("L", (240, 320), PAPER)
    canvas = ImageDraw.Draw(image)
    canvas.line(STROKE, fill=INK, width=PEN, joint="curve")
    for x, y in STROKE:
        canvas.ellipse((x - PEN / 2, y - PEN / 2, x + PEN / 2, y + PEN / 2), fill=INK)
    return image


if __name__ == "__main__":
    draw().save(Path(__file__).with_name("seven.png"), optimize=True)
