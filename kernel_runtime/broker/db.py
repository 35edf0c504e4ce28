"""The capability ``db``: queries of guests, run on the host in databases that the operator named.

One statement a call, in a transaction of its own. What keeps a read grant from writing is the database, not a
look at the text: a read-only transaction (PostgreSQL), a read-only file and an authorizer (SQLite). A call is
bounded in rows, bytes and time, and ended when its guest goes.
"""

from __future__ import annotations

import asyncio
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any

import msgspec

from kernel_runtime.broker.databases import FILE, table_for
from kernel_runtime.broker.db_job import Driver, Job
from kernel_runtime.broker.handler import Call, Performed
from kernel_runtime.domain.decide import Request
from kernel_runtime.domain.errors import Conflict, Invalid, NotFound
from kernel_runtime.domain.places import advice
from kernel_runtime.domain.scopes import parse_request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernel_runtime.broker.databases import Database
    from kernel_runtime.broker.handler import Demand

MOST_AT_ONCE = 8
MOST_ROWS = 100_000
MOST_SECONDS = 300.0
#: A driver that has not kept to the time by then is told to stop.
_GRACE_SECONDS = 2.0
_WAYS = {"query": "read", "execute": "write"}
_SCHEME = re.compile(r"(sqlite|postgresql)(\+(pysqlite|psycopg))?://")


class Asked(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``params`` by the names that the statement has for them (``:name``). ``arrow``: the rows as Arrow IPC bytes."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
    sql: Annotated[str, msgspec.Meta(min_length=1, max_length=100_000)]
    params: dict[str, Any] | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)] = 10_000
    timeout: Annotated[float, msgspec.Meta(gt=0, le=MOST_SECONDS)] = 30.0
    arrow: bool = False


class Databases:
    """The handler. ``secret`` gives the value of a secret by its name; ``place``: the file that names databases."""

    name = "db"

    def __init__(
        self,
        databases: Mapping[str, Database],
        secret: Callable[[str], bytes] | None = None,
        place: str = FILE,
    ) -> None:
        self._databases = databases
        self._place = place
        self._secret = secret
        self._turns = asyncio.Semaphore(MOST_AT_ONCE)
        self._threads = ThreadPoolExecutor(MOST_AT_ONCE, thread_name_prefix="db")

    async def perform(self, call: Call, demand: Demand) -> Performed:
        """See ``Handler``."""
        way = _WAYS.get(call.action)
        if way is None:
            raise Invalid(f"db cannot {call.action!r}; {advice(call.action, _WAYS)}")
        try:
            asked = msgspec.convert(call.arguments, Asked)
        except msgspec.ValidationError as error:
            raise Invalid(f"db {call.action}: {error}") from None
        scope = parse_request(f"db:{asked.name}:{way}", "name")
        await demand(
            Request(
                scope=scope,
                arguments={"name": asked.name},
                principal=call.principal,
                tenant=call.tenant,
                session=call.session,
            )
        )
        return await self._run(asked, writes=way == "write")

    async def close(self) -> None:
        """See ``Handler``."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _run(self, asked: Asked, *, writes: bool) -> Performed:
        job = Job(
            driver=self._driver(asked.name),
            sql=asked.sql,
            params=asked.params or {},
            writes=writes,
            limit=asked.limit,
            seconds=asked.timeout,
            arrow=asked.arrow,
        )
        async with self._turns:
            running = asyncio.get_running_loop().run_in_executor(self._threads, job.run)
            try:
                async with asyncio.timeout(asked.timeout + _GRACE_SECONDS):
                    value, size = await asyncio.shield(running)
            except TimeoutError:
                _end(job, running)
                raise Conflict(f"{asked.name}: it took longer than {asked.timeout:g} s") from None
            except asyncio.CancelledError:
                _end(job, running)
                raise
        return Performed(value=value, size=size)

    def _driver(self, name: str) -> Driver:
        """Made for the call: its password is nowhere afterwards."""
        database = self._databases.get(name)
        if database is None:
            raise NotFound(
                f"no database is called {name!r}; {advice(name, self._databases)}. To name it, write the table "
                f'{table_for(name)} with url = "postgresql://…" or "sqlite:///…" into {self._place} on the host, and '
                "begin the session anew"
            )
        if not (found := _SCHEME.match(database.url)):
            raise Invalid(f"{name}: only sqlite and postgresql (psycopg) are held to what was granted")
        password = self._password(name, database)
        if found[1] == "sqlite":
            from kernel_runtime.broker.db_sqlite import Sqlite

            return Sqlite(database.url)
        from kernel_runtime.broker.db_postgres import Postgres

        return Postgres(database.url, password, database.role)

    def _password(self, name: str, database: Database) -> str:
        if not database.secret:
            return ""
        if self._secret is None:
            raise NotFound(f"{name}: the secret {database.secret!r} cannot be opened here")
        return self._secret(database.secret).decode()


def _end(job: Job, running: asyncio.Future[Any]) -> None:
    """Nobody waits for it any longer: the database is told, out of the loop's way."""
    running.add_done_callback(_ignored)
    asyncio.get_running_loop().run_in_executor(None, job.cancel)


def _ignored(future: asyncio.Future[Any]) -> None:
    if not future.cancelled():
        future.exception()
