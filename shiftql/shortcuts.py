"""What can be typed at the prompt in two characters, and the statement each stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from shiftql.printer import quoted
from shiftql.relations import RELATION_NAMES, relation_named
from storage.errors import BindingError
from storage.names import did_you_mean

LEAVE = "\\q"


class CatalogNames(Protocol):
    """The names in the catalog."""

    @property
    def models(self) -> Sequence[str]: ...

    @property
    def datasets(self) -> Sequence[str]: ...


@dataclass(frozen=True)
class Shortcut:
    """`statement` is what `word` alone stands for; `argument` names what may follow it."""

    word: str
    statement: str
    help: str
    argument: str = ""


SHORTCUTS = (
    Shortcut("\\m", "SHOW MODELS", "the models of the pool"),
    Shortcut("\\d", "SHOW DATASETS", "the datasets; with a NAME, that relation, model or dataset", "NAME"),
    Shortcut("\\r", "SHOW RANKERS", "the rankers"),
    Shortcut("\\w", "SHOW WATCHES", "the standing questions"),
    Shortcut("\\h", "HELP", "the language, or a TOPIC of it", "TOPIC"),
    Shortcut("\\?", "HELP shortcuts", "these shortcuts"),
    Shortcut(LEAVE, "", "leave"),
)


def is_shortcut(text: str) -> bool:
    """Whether a line is meant as a shortcut, of those there are or not."""
    return text.lstrip().startswith("\\")


def statement_of(text: str, names: CatalogNames) -> str:
    """The statement that a shortcut stands for; empty for the one that leaves.

    Raises BindingError for a shortcut there is not, and for a NAME that nothing has.
    """
    word, _, argument = text.strip().rstrip(";").strip().partition(" ")
    argument = argument.strip().strip("'\"`")
    shortcut = next((each for each in SHORTCUTS if each.word == word.lower()), None)
    if shortcut is None:
        raise BindingError(
            f"there is no shortcut {word}", subject=word, allowed=[each.word for each in SHORTCUTS], fix="\\? says more"
        )
    if argument and not shortcut.argument:
        raise BindingError(f"{word} takes nothing after it", subject=word, fix=f"write {word} alone")
    if argument and shortcut.argument == "NAME":
        return _described(argument, names)
    return f"{shortcut.statement} {argument}".strip()


def _described(name: str, names: CatalogNames) -> str:
    if relation_named(name) is not None:
        return f"HELP {name}"
    for relation, known in (("models", names.models), ("datasets", names.datasets)):
        if name in known:
            return f"SELECT * FROM {relation} WHERE name = {quoted(name)}"
    known_names = [*RELATION_NAMES, *names.models, *names.datasets]
    raise BindingError(
        f"there is no relation, model or dataset {name!r}",
        subject=name,
        fix=did_you_mean(name, known_names) or "\\m and \\d list what there is",
    )
