"""Files of which a few bytes are wrong."""

from hypothesis import strategies as st

Damage = list[tuple[float, int]]
"""Places, as a part of the file's length, and the value of the byte there."""

DAMAGE = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5)


def damaged(file: bytes, damage: Damage) -> bytes:
    """The file with this damage."""
    data = bytearray(file)
    for place, value in damage:
        data[int(place * (len(data) - 1))] = value
    return bytes(data)
