"""Tables of text drawn for a terminal."""

from __future__ import annotations

import io

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from shiftql.tables import TextTable, Verbatim

# Wide enough for any table; none is stretched to it.
_UNLIMITED = 100_000
# What a column of text may be squeezed to before the table is drawn as one block a row.
_SQUEEZED = 16
_GAP = 2


def draw(*parts: TextTable | str, width: int | None = None, colour: bool = False) -> str:
    """Tables and lines below each other, at most `width` characters wide; None sets no limit."""
    limit = width or _UNLIMITED
    console = Console(file=io.StringIO(), width=limit, force_terminal=colour, highlight=False, markup=False)
    with console.capture() as captured:
        for part in parts:
            drawn = part if isinstance(part, str) else _drawn(part, limit)
            console.print(drawn, soft_wrap=isinstance(part, Verbatim))
    return "\n".join(line.rstrip() for line in captured.get().splitlines())


def _drawn(table: TextTable, limit: int) -> RenderableType:
    if table.rows and _least_width(table) > limit:
        return _blocks(table)
    drawn = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for column in table.header:
        is_numeric = column in table.numeric
        drawn.add_column(Text(column), justify="right" if is_numeric else "left", no_wrap=is_numeric, overflow="fold")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    if table.beneath:
        drawn.add_section()
    for row in table.beneath:
        drawn.add_row(*map(Text, row), style="dim")
    return drawn


def _least_width(table: TextTable) -> int:
    total = 0
    for index, column in enumerate(table.header):
        widest = max(len(row[index]) for row in (table.header, *table.rows, *table.beneath))
        total += _GAP + (widest if column in table.numeric else min(widest, _SQUEEZED))
    return total


def _blocks(table: TextTable) -> RenderableType:
    widest = max(map(len, table.header))
    blocks = Table.grid(padding=(0, _GAP))
    blocks.add_column(min_width=widest, no_wrap=True)
    blocks.add_column(overflow="fold")
    for row, style in [*((row, "") for row in table.rows), *((row, "dim") for row in table.beneath)]:
        for column, cell in zip(table.header, row, strict=True):
            blocks.add_row(Text(column, style="bold"), Text(cell), style=style)
        blocks.add_row()
    return Group(blocks)
