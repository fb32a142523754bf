"""SHiFT: ask which pre-trained model to fine-tune for a dataset. Importing this loads no engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from storage.errors import ShiftError

if TYPE_CHECKING:
    from shiftql.answers import Answer

__all__ = ["ShiftError", "__version__", "query"]

__version__: str


def query(text: str, server: str | None = None) -> Answer:
    """Run `text` and return the answer to its last statement. Raises the ShiftError of one that fails.

    With `server`, such as http://host:4200, it is answered by the deployment `search` of that Prefect server.
    """
    from shiftql import engine

    return engine.query(text, server)


def __getattr__(name: str) -> str:
    if name == "__version__":
        from importlib.metadata import version

        return version("shiftql")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
