"""Work pools: what kind of machine serves each, and how many workers are up."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from http import HTTPStatus

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.objects import WorkerStatus
from prefect.exceptions import PrefectHTTPStatusError

# The faster first.
POOLS = ("gpu", "cpu")
# In each: flows that plan, hand out and wait, and the evaluations that they hand out.
QUERIES, EVALUATIONS = "queries", "evaluations"
# What trains or takes gradients goes to GPUs where there are any; all else to whatever is free.
_FOR_GPUS = frozenset({"finetune", "task2vec"})


def pool_for(methods: Collection[str], room: Mapping[str, int], workers: Mapping[str, int]) -> str | None:
    """The pool for evaluations by some methods, by how many more runs each has room for; None where they have to wait.

    `workers` counts those that are up.
    """
    are_for_gpus = bool(_FOR_GPUS & set(methods)) and workers.get("gpu", 0) > 0
    return next((pool for pool in (POOLS[:1] if are_for_gpus else POOLS) if room.get(pool, 0) > 0), None)


def name_of_worker(name: str, queue: str) -> str:
    """What a worker is called that serves a queue."""
    return f"{name}-{queue}"


def is_for_queries(worker: str) -> bool:
    """Whether a worker of that name only plans and waits."""
    return name_of_worker("", QUERIES) in worker


async def workers_up(client: PrefectClient) -> dict[str, set[str]]:
    """The names of the workers of each pool that are alive, by their heartbeats, but for those that only plan."""
    found: dict[str, set[str]] = {}
    for pool in POOLS:
        try:
            workers = await client.read_workers_for_work_pool(pool)
        except PrefectHTTPStatusError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:
                raise
            workers = []
        names = {worker.name for worker in workers if worker.status == WorkerStatus.ONLINE}
        found[pool] = {name for name in names if not is_for_queries(name)}
    return found
