"""What a replay is asked for: the tables, and the datasets of each to choose for."""

from __future__ import annotations

from collections.abc import Sequence

from shiftql.progress import progress
from shiftql.recorded import Records
from shiftql.replaying import unfit
from storage.errors import BindingError
from storage.names import did_you_mean


def check_names(tables: Sequence[Records]) -> None:
    """Raise BindingError where two tables have the same name: what is told of them could not be told apart."""
    names = [table.name for table in tables]
    for name in names:
        if names.count(name) > 1:
            raise BindingError(f"{names.count(name)} tables are called {name}", subject=name, fix="name each file once")


def choose_targets(
    tables: Sequence[Records], cheap: Records | None, wanted: Sequence[str]
) -> list[tuple[Records, str]]:
    """Tables with the datasets to choose for: the wanted ones, or all of which the cheap runs know too.

    Where all are, those for which nothing can be chosen are noted and left out. Raises BindingError when a wanted
    one is in no table or nothing can be chosen for it, and when none is left.
    """
    for target in wanted:
        _check_known(tables, target)
    chosen = []
    for table in tables:
        shared = [name for name in table.datasets if cheap is None or name in cheap.datasets]
        for target in [name for name in dict.fromkeys(wanted) if name in table.datasets] if wanted else shared:
            reason = unfit(table, target)
            if reason is None:
                chosen.append((table, target))
            elif wanted:
                raise BindingError(f"nothing can be chosen for {target} of {table.name}: {reason}", subject=target)
            else:
                progress.get().note(f"{target} of {table.name} is left out: {reason}")
    if not chosen:
        names = ", ".join(table.name for table in tables)
        beside = f" that {cheap.name} has too" if cheap is not None else ""
        allowed = list(dict.fromkeys(name for table in tables for name in table.datasets))
        raise BindingError(f"{names} has no dataset to choose for{beside}", allowed=allowed)
    return chosen


def _check_known(tables: Sequence[Records], target: str) -> None:
    known = list(dict.fromkeys(name for table in tables for name in table.datasets))
    if target not in known:
        fix = did_you_mean(target, known, 1) or "name one of those"
        names = " and ".join(table.name for table in tables)
        has = "have" if len(tables) > 1 else "has"
        raise BindingError(f"{names} {has} no dataset {target}", subject=target, allowed=known, fix=fix)
