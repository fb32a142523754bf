"""Making many objects at once, and keeping them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def uncollected() -> Iterator[None]:
    """Make many objects without looking for garbage among them, of which there is none.

    Python looks whenever many were made; for large imports that is a sixth of the time, for long queries half.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


@contextmanager
def kept_for_good() -> Iterator[None]:
    """Make what stays as long as this process, as imports do: it is never looked at for garbage, then or later.

    Python looks through all there is whenever a quarter came to it. With a framework that is a third of a second, in
    the middle of whatever is done. For processes of our own: a person's garbage would be kept as well.
    """
    with uncollected():
        yield
    gc.freeze()
