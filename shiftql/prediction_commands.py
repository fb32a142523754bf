"""The command `shiftql predict`."""

from __future__ import annotations

from pathlib import Path

import click

from shiftql.options import format_option


@click.command()
@click.argument("model", metavar="NAME")
@click.argument("data", metavar="DATA")
@click.option(
    "--out", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path), help="Write them there, as CSV."
)
@format_option
def predict(model: str, data: str, out: Path | None, format: str) -> None:
    """Predict every row of DATA by the model NAME: one that FINETUNE made, or any that has classes.

    DATA is a file or folder (labels are not needed: a CSV file, a folder of images, a .txt file of sentences, …) or a
    registered dataset.
    """
    from shiftql.asking import surface
    from shiftql.engine import Session
    from shiftql.render import render
    from shiftql.terminal import shown_progress
    from storage.errors import StoreError

    with shown_progress():
        answer = Session().predict(model, data)
    if out is None:
        click.echo(render(answer, format, **surface()))
        return
    try:
        out.write_text(f"{render(answer, 'csv')}\n", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"{out} cannot be written: {error.strerror or error}", subject=str(out), fix="name another file"
        ) from error
    click.echo(f"{len(answer.rows)} predictions by {model} are in {out}")
