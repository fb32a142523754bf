"""Building the performance matrix: what came of it, also where it was interrupted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from shiftql.benchmark import Grid
from shiftql.progress import progress
from storage.database import Database
from storage.outages import explain
from storage.results import ResultStore
from storage.settings import current_settings


def build(grid: Grid, database: Database, run: Callable[[], Mapping[str, Any]]) -> tuple[Mapping[str, Any], bool]:
    """Have the unknown cells of a grid measured by a `run`; what it did, and whether it was interrupted.

    Raises StoreError where the disk or the database failed it.
    """
    try:
        return run(), False
    except KeyboardInterrupt:
        progress.get().note("interrupted: what is measured is kept, and the same command goes on from here")
        unknown = [cell.fingerprint for cell in grid.cells.values() if cell.outcome is None]
        known = ResultStore(database).known(unknown)
        spent = sum(outcome.cost_seconds for outcome in known.values())
        return {"computed": list(known), "spent_seconds": spent}, True
    except Exception as error:
        problem = explain(error, current_settings())
        if problem is None:
            raise
        raise problem from error
    finally:
        progress.get().end()
