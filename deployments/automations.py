"""What a Prefect server does by itself, made by `shiftql deploy`. What starts a deployment stands in prefect.yaml."""

from __future__ import annotations

from datetime import timedelta

from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.states import StateType

# Runs give a sign of life every 30 seconds: flows.run sees to it, and prefect.yaml for workers.
_HEARTBEAT_SECONDS = 90

_LOST_RUNS = AutomationCore(
    name="shift: lost runs",
    description=f"A run that gives no sign of life for {_HEARTBEAT_SECONDS} seconds has crashed: its worker is gone.",
    trigger=EventTrigger(
        match={"prefect.resource.id": "prefect.flow-run.*"},  # type: ignore[arg-type]
        for_each={"prefect.resource.id"},
        posture=Posture.Proactive,
        after={"prefect.flow-run.heartbeat"},
        expect={
            "prefect.flow-run.heartbeat",
            # Whoever ended, or waits for its next try, gives none.
            *(
                f"prefect.flow-run.{state}"
                for state in (
                    "Completed",
                    "Failed",
                    "Crashed",
                    "Cancelled",
                    "Cancelling",
                    "Paused",
                    "Suspended",
                    "Scheduled",
                    "AwaitingRetry",
                    "AwaitingConcurrencySlot",
                    "Late",
                    "Pending",
                )
            ),
        },
        threshold=1,
        within=timedelta(seconds=_HEARTBEAT_SECONDS),
    ),
    actions=[
        ChangeFlowRunState(
            name=None,
            state=StateType.CRASHED,
            message=f"no sign of life for {_HEARTBEAT_SECONDS} s: its worker is gone; what is known by now is kept",
            force=False,
        )
    ],
)

AUTOMATIONS: list[AutomationCore] = [_LOST_RUNS]
