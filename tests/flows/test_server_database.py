"""Several writers on the database of the home's Prefect server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from prefect.server.database.configurations import AioSqliteConfiguration
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from flows.server_database import WritesInTurn

WRITERS, TIMES = 4, 10


async def count_together(database: AioSqliteConfiguration) -> int:
    """What several writers count up to that read first, each in one transaction."""
    engine = await database.engine()
    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE counted (number INTEGER)"))
        await connection.execute(text("INSERT INTO counted VALUES (0)"))

    async def count() -> None:
        for _ in range(TIMES):
            session = await database.session(engine)
            async with session, database.begin_transaction(session):
                number = (await session.execute(text("SELECT number FROM counted"))).scalar_one()
                await asyncio.sleep(0)
                await session.execute(text("UPDATE counted SET number = :next"), {"next": number + 1})

    await asyncio.gather(*(count() for _ in range(WRITERS)))
    session = await database.session(engine)
    async with session:
        return int((await session.execute(text("SELECT number FROM counted"))).scalar_one())


def test_writers_that_read_first_wait_for_one_another(tmp_path: Path) -> None:
    database = WritesInTurn(connection_url=f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")
    assert asyncio.run(count_together(database)) == WRITERS * TIMES


def test_prefect_refuses_them_which_is_why(tmp_path: Path) -> None:
    database = AioSqliteConfiguration(connection_url=f"sqlite+aiosqlite:///{tmp_path / 'prefect.db'}")
    with pytest.raises(OperationalError, match="locked"):
        asyncio.run(count_together(database))
