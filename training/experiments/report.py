"""What an experiment found: a table, sentences computed from its figures, and a picture."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure

SPREAD = "± is the standard deviation over the seeds"
"""What a page says of what `spread` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A page's content: `method` says what was done, `seen` what came out, `caption` why the picture is as it is to be
    expected; all in Markdown.
    """

    title: str
    method: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    seen: tuple[str, ...]
    caption: str
    picture: Figure

    def table(self) -> str:
        """Return the rows as a Markdown table, numbers to the right of the first column."""
        rule = "|---" + "|---:" * (len(self.header) - 1) + "|"
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.header, *self.rows)]
        return "\n".join([lines[0], rule, *lines[1:]])


def spread(values: Sequence[float], digits: int = 2) -> str:
    """Return the mean of the seeds' values with their standard deviation."""
    if not all(map(math.isfinite, values)):
        return "diverged"
    mean = f"{statistics.fmean(values):.{digits}f}"
    return f"{mean} ± {statistics.stdev(values):.{digits}f}" if len(values) > 1 else mean


def difference(values: Sequence[float], reference: Sequence[float]) -> str:
    """Say by how many points the mean of the seeds' percentages lies above or below that of the reference's."""
    if not all(map(math.isfinite, (*values, *reference))):
        return "not to be compared, since a run diverged, with"
    points = round(statistics.fmean(values) - statistics.fmean(reference), 2)
    side = "above" if points > 0 else "below" if points < 0 else "above or below"
    if min(len(values), len(reference)) < 2:
        return f"{abs(points):.2f} points {side}"
    error = math.hypot(*(statistics.stdev(each) / math.sqrt(len(each)) for each in (values, reference)))
    return f"{abs(points):.2f} points (standard error {error:.2f}) {side}"
