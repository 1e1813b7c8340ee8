"""`resnet-train inspect`: what an image folder holds, before anything is trained on it."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from training.data.labelling import Unlabelled
from training.data.layout import Layout, read_layout
from training.data.survey import PartSurvey, Survey, survey
from training.errors import DataError
from training.loop.checkpoint import write_atomically
from training.options import InspectOptions
from training.plots import draw_samples, to_png

_MOST_ROWS = 40
"""Classes that are printed; of more, those with the fewest images to train on."""

_MOST_LISTED = 10
"""Files that are printed by name, of those that are no images, and of groups of equal ones."""

_MOST_DRAWN = 20
"""Classes of which samples are drawn."""


def inspect_folder(options: InspectOptions, console: Console) -> None:
    """Print what is in an image folder or archive, and draw samples of each class into a PNG.

    Raises DataError if it is none, or can be understood in several ways, and CheckpointError if the picture cannot be
    written.
    """
    layout = read_layout(options.folder.expanduser())
    if layout is None:
        raise DataError(
            f"{options.folder} is no folder, and no .tar, .tar.gz, .tgz or .zip: give the folder or archive of images"
        )
    found = survey(layout)
    console.print(_parts_table(found))
    if any("" not in part.counts for part in found.parts):
        console.print(_classes_table(found))
    for line in _remarks(layout, found):
        console.print(line, highlight=False, markup=False)
    if drawn := _samples(found.parts[0], options.output, options.folder):
        console.print(drawn, highlight=False, markup=False)


def _parts_table(found: Survey) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("part")
    for heading in ("images", "classes"):
        table.add_column(heading, justify="right")
    for heading in ("smallest", "median", "largest", "modes"):
        table.add_column(heading)
    for part in found.parts:
        sizes = [f"{width}×{height}" for width, height in part.sizes_by_area()] or ["", "", ""]
        modes = ", ".join(f"{mode} {count:,}" for mode, count in part.modes.most_common())
        classes = "none" if "" in part.counts else f"{len(part.counts):,}"
        table.add_row(part.name, f"{part.counts.total():,}", classes, *sizes, modes)
    return table


def _classes_table(found: Survey) -> Table:
    """Images of each class in each part, the classes with the fewest first."""
    labelled = [part for part in found.parts if "" not in part.counts]
    names = dict.fromkeys(name for part in labelled for name in part.counts)
    ordered = sorted(names, key=lambda name: [part.counts[name] for part in labelled])
    table = Table(box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("class", overflow="fold")
    for part in labelled:
        table.add_column(part.name, justify="right", no_wrap=True)
    for name in ordered[:_MOST_ROWS]:
        table.add_row(escape(name), *(f"{part.counts[name]:,}" for part in labelled))
    if left := ordered[_MOST_ROWS:]:
        most = [f"to {max(part.counts[name] for name in left):,}" for part in labelled]
        table.add_row(f"and {len(left):,} more", *most)
    return table


def _remarks(layout: Layout, found: Survey) -> list[str]:
    """What else there is to know, a line each."""
    lines = [*layout.notes]
    for part, held in layout.parts.items():
        if not isinstance(held, Unlabelled):
            lines += [note for note in held.notes if note not in lines]
        elif part != "test":  # of which the layout's notes tell
            lines.append(held.reason)
    unreadable = {f"{name}: {reason}" for part in found.parts for name, reason in part.unreadable.items()}
    lines += _some(sorted(unreadable), "cannot be read as an image", "cannot be read as images")
    if dim := sum(part.dim for part in found.parts):
        told = "grey pictures of 16 bits use less than a quarter of the range: scale them to 16 bits first"
        lines.append(f"{dim:,} {told}")
    lines += _some(
        [" = ".join(group) for group in found.duplicates],
        "lies in two parts, or in two classes",
        "lie in two parts, or in two classes",
    )
    return lines


def _some(listed: list[str], one: str, several: str) -> list[str]:
    """The first files, below how many there are and what is true of one or of several."""
    if not listed:
        return []
    more = [f"  and {len(listed) - _MOST_LISTED:,} more"] if len(listed) > _MOST_LISTED else []
    heading = f"1 file {one}:" if len(listed) == 1 else f"{len(listed):,} files {several}:"
    return [heading, *(f"  {each}" for each in listed[:_MOST_LISTED]), *more]


def _samples(part: PartSurvey, output: Path, folder: Path) -> str:
    """Draw samples, and return what to say of them."""
    names = sorted(part.samples)[:_MOST_DRAWN]
    if not names:
        return ""
    shown = f"{len(names)} of {len(part.counts):,} classes" if len(part.counts) > len(names) else part.name
    title = f"{folder.name}: {shown}"
    write_atomically(output, to_png(draw_samples({name: part.samples[name] for name in names}, title)))
    return f"samples are drawn in {output}"
