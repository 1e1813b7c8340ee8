import io

from rich.console import Console

from training.console import print_text


def test_text_is_printed_as_it_is_also_where_it_looks_like_markup_or_is_long() -> None:
    out = io.StringIO()
    text = f"[bold]a[/bold] 12 \\[x] {'long ' * 40}end\nsecond"
    print_text(Console(file=out, force_terminal=True, width=20), text)
    assert out.getvalue() == f"{text}\n"
