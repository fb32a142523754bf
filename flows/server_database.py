"""The SQLite database of the home's Prefect server, for several writers."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from prefect.server.database.configurations import AioSqliteConfiguration
from prefect.server.database.dependencies import set_database_config
from prefect.settings import PREFECT_SERVER_DATABASE_CONNECTION_URL
from sqlalchemy.ext.asyncio import AsyncSession, AsyncSessionTransaction


class WritesInTurn(AioSqliteConfiguration):
    """Transactions take SQLite's only write lock when they begin, and wait for it in turn.

    Prefect's own take it when they first write. Where somebody else wrote since they first read, SQLite refuses that at
    once, however long they would wait: states are not set and heartbeats are lost as soon as a few workers are busy.
    """

    @asynccontextmanager
    async def begin_transaction(
        self, session: AsyncSession, with_for_update: bool = False
    ) -> AsyncGenerator[AsyncSessionTransaction, None]:
        async with super().begin_transaction(session, with_for_update=True) as transaction:
            yield transaction


def let_writers_take_turns() -> None:
    """Have the server of this process use such a database. To be called before it is created."""
    url = PREFECT_SERVER_DATABASE_CONNECTION_URL.value()
    assert url is not None
    set_database_config(WritesInTurn(connection_url=url))
