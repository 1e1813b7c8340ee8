"""Text for the terminal that is not the program's own: names of files and classes, notes, figures."""

from rich.console import Console


def print_text(console: Console, text: str) -> None:
    """Print text as it is: nothing in it is markup, or coloured, and no line is broken."""
    console.print(text, highlight=False, markup=False, soft_wrap=True)
