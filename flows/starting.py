"""What has to be started before the work of a plan can begin."""

from __future__ import annotations

import sys

from flows.run import is_api_configured
from flows.server import is_server_up
from flows.slots import hosts_needed
from shiftql.plan import PlanNode
from storage.settings import current_settings
from tasks.host import host


def to_start(plan: PlanNode) -> set[str]:
    """What a plan needs that does not run yet: the home's "server", "prefect" in this process, and hosts by name."""
    starts = {name for name in hosts_needed(plan) if not host(name).is_running()}
    if "prefect" not in sys.modules:
        starts.add("prefect")
    if not is_api_configured() and not is_server_up(current_settings()):
        starts.add("server")
    return starts
