"""What has to be started before the work of a plan can begin."""

from __future__ import annotations

import sys
from collections.abc import Collection

from flows.server import is_api_configured, server_at
from flows.slots import hosts_needed
from shiftql.plan import PlanNode
from storage.settings import current_settings
from tasks.host import host

_TRAINING = "tasks.finetuning"


def to_start(plan: PlanNode) -> set[str]:
    """What a plan needs that does not run yet: the home's "server", "prefect" in this process, hosts by name, and the
    "training" in them."""
    hosts = hosts_needed(plan)
    starts = {name for name in hosts if not host(name).is_running()}
    if any(evaluation.method == "finetune" for evaluation in plan.new_evaluations) and not has_trained(hosts):
        starts.add("training")
    if "prefect" not in sys.modules:
        starts.add("prefect")
    if not is_api_configured() and server_at(current_settings()) is None:
        starts.add("server")
    return starts


def has_trained(hosts: Collection[str]) -> bool:
    """Whether a model was trained in one of these hosts."""
    return any(module.startswith(_TRAINING) for name in hosts for module in host(name).called)
