"""The work pools of SHiFT: one for each kind of machine, with a queue for what waits and one for what computes."""

from __future__ import annotations

from dataclasses import dataclass

from flows.pools import EVALUATIONS, QUERIES


@dataclass(frozen=True)
class Queue:
    """A work queue. At most `limit` of its runs go on at once; without one, as many as there are workers for."""

    name: str
    description: str
    priority: int
    limit: int | None = None


@dataclass(frozen=True)
class Pool:
    """A work pool. It is of Prefect's type `process`, so that a plain `prefect worker start` serves it too."""

    name: str
    description: str
    queues: tuple[Queue, ...]


_QUEUES = (
    Queue(QUERIES, "Flows that plan and wait for evaluations.", priority=1, limit=10),
    # Each worker takes one run of it at a time for each of its devices.
    Queue(EVALUATIONS, "Batches of evaluations, one at a time on each device.", priority=2),
)
POOLS = (
    Pool("cpu", "Machines without a GPU: flows, and evaluations of what needs none.", _QUEUES),
    Pool("gpu", "Machines with GPUs: evaluations of models that need one.", _QUEUES),
)
