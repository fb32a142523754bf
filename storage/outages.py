"""What to do and to tell when an error comes from the disk or the database and not from what was asked."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from typing import TypeVar

from sqlalchemy.exc import DBAPIError

from storage.errors import StoreError
from storage.settings import Settings

_FULL = (errno.ENOSPC, errno.EDQUOT)
# As SQLite, PostgreSQL and the operating system say it.
_SAY_FULL = ("disk is full", "no space left", "quota exceeded")
# With less than this free, whatever failed most likely failed for the want of it.
_LEAST_FREE_BYTES = 1 << 20
_ATTEMPTS = 3
T = TypeVar("T")


def again(work: Callable[[], T]) -> T:
    """Do work, and do it again when the connection to the database is lost meanwhile, as by a restart.

    The work must bear being done twice.
    """
    for _ in range(_ATTEMPTS - 1):
        try:
            return work()
        except DBAPIError as error:
            if not error.connection_invalidated:
                raise
    return work()


def explain(error: Exception, settings: Settings) -> StoreError | None:
    """The StoreError to raise instead of an error that a full disk or the database caused; None for any other."""
    if full := disk_full(settings, error):
        return full
    # What had no statement yet was the attempt to connect.
    if isinstance(error, DBAPIError) and (error.connection_invalidated or error.statement is None):
        return StoreError(
            f"the database does not answer: {error.orig}",
            fix="check that its server runs and SHIFT_DATABASE_URL is right, and ask again: what is finished is kept",
        )
    if isinstance(error, DBAPIError | UnicodeEncodeError):
        return StoreError(
            f"the database cannot answer this: {getattr(error, 'orig', error)}",
            fix="ask something simpler; if SHOW MODELS fails too, check SHIFT_DATABASE_URL and the disk",
        )
    return None


def disk_full(settings: Settings, error: Exception | None = None) -> StoreError | None:
    """The StoreError to raise when the home's disk is full, or an error says so of some disk; None when it is not."""
    if not (any(map(_says_full, _causes(error))) or _is_full(settings)):
        return None
    return StoreError(
        "the disk is full",
        subject=str(settings.home),
        fix=f"free some space where {settings.home} is, and ask again: what is finished is kept",
    )


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _says_full(error: BaseException) -> bool:
    return getattr(error, "errno", None) in _FULL or any(phrase in str(error).lower() for phrase in _SAY_FULL)


def _is_full(settings: Settings) -> bool:
    disk = os.statvfs(settings.home)
    return disk.f_bavail * disk.f_frsize < _LEAST_FREE_BYTES
