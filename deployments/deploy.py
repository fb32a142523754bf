"""Brings a Prefect server to what is told here: pools, queues, deployments and automations, and says what changed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import yaml
from prefect import Flow
from prefect.client.orchestration import PrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentCreate,
    DeploymentScheduleCreate,
    WorkPoolCreate,
    WorkPoolUpdate,
)
from prefect.client.schemas.objects import ConcurrencyOptions
from prefect.events import DeploymentTriggerTypes
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flows import load_flow_from_entrypoint
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.utilities.callables import parameter_schema
from prefect.workers.process import ProcessWorker
from pydantic import TypeAdapter

from deployments.automations import AUTOMATIONS
from deployments.pools import POOLS, Pool, Queue
from storage.errors import StoreError

FILE = Path(__file__).with_name("prefect.yaml")
# What is told of a schedule; whether it is active is for people to say.
_SCHEDULED = {"schedule", "slug", "parameters"}
_TRIGGER: TypeAdapter[DeploymentTriggerTypes] = TypeAdapter(DeploymentTriggerTypes)


def deploy(api_url: str, tell: Callable[[str], None]) -> int:
    """Bring the Prefect server at a URL up to date, telling each change as it is made; how many there were.

    What is there and not told of here stays. Raises StoreError when no server answers there.
    """

    async def run() -> int:
        changes = 0
        async with get_client() as client:
            async for change in _changes(client):
                tell(change)
                changes += 1
        return changes

    with temporary_settings({PREFECT_API_URL: api_url}):
        try:
            return asyncio.run(run())
        except PrefectHTTPStatusError as error:
            raise _refused(api_url, error) from error
        except (httpx.HTTPError, RuntimeError) as error:
            raise StoreError(
                f"no Prefect server answers at {api_url} ({type(error).__name__})",
                subject=api_url,
                fix="start one with 'shiftql up', or set PREFECT_API_URL to one that runs",
            ) from error


def read_deployments() -> list[dict[str, Any]]:
    """The deployments as prefect.yaml tells them."""
    found: list[dict[str, Any]] = yaml.safe_load(FILE.read_text(encoding="utf-8"))["deployments"]
    return found


def flow_of(told: Mapping[str, Any]) -> Flow[..., Any]:
    """The flow of a deployment."""
    return load_flow_from_entrypoint(told["entrypoint"], use_placeholder_flow=False)


async def _changes(client: PrefectClient) -> AsyncIterator[str]:
    for pool in POOLS:
        async for change in _bring_pool(client, pool):
            yield change
    automations = list(AUTOMATIONS)
    for told in read_deployments():
        identity, deployed = await _bring_deployment(client, told)
        automations += _triggers(told, identity)
        if deployed:
            yield deployed
    for automation in automations:
        if brought := await _bring_automation(client, automation):
            yield brought


async def _bring_pool(client: PrefectClient, pool: Pool) -> AsyncIterator[str]:
    try:
        found = await client.read_work_pool(pool.name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        wanted = WorkPoolCreate(
            name=pool.name, type="process", description=pool.description, base_job_template=template
        )
        await client.create_work_pool(wanted)
        yield f"created work pool {pool.name}"
    else:
        if found.description != pool.description:
            await client.update_work_pool(pool.name, WorkPoolUpdate(description=pool.description))
            yield f"updated work pool {pool.name}: description"
    for queue in pool.queues:
        if change := await _bring_queue(client, pool, queue):
            yield change


async def _bring_queue(client: PrefectClient, pool: Pool, queue: Queue) -> str | None:
    named = f"{pool.name}/{queue.name}"
    wanted = {"description": queue.description, "priority": queue.priority, "concurrency_limit": queue.limit}
    try:
        found = await client.read_work_queue_by_name(queue.name, pool.name)
    except ObjectNotFound:
        await client.create_work_queue(queue.name, work_pool_name=pool.name, **wanted)  # type: ignore[arg-type]
        limit = "" if queue.limit is None else f", {queue.limit} at once"
        return f"created work queue {named}{limit}"
    changed = [key for key, value in wanted.items() if getattr(found, key) != value]
    if not changed:
        return None
    await client.update_work_queue(found.id, **{key: wanted[key] for key in changed})
    return f"updated work queue {named}: {', '.join(changed)}"


async def _bring_deployment(client: PrefectClient, told: Mapping[str, Any]) -> tuple[UUID, str | None]:
    """Make a deployment what it is told to be; its id, and what changed."""
    flow = flow_of(told)
    named = f"{flow.name}/{told['name']}"
    wanted = _wanted(told, flow)
    try:
        found = await client.read_deployment_by_name(named)
    except ObjectNotFound:
        return await _save(client, flow, told["name"], wanted), f"created deployment {named}"
    limit = found.global_concurrency_limit
    held = {**found.model_dump(mode="json"), "concurrency_limit": None if limit is None else limit.limit}
    # The server has no order of them.
    held["schedules"] = _by_slug(each.model_dump(mode="json", include=_SCHEDULED) for each in found.schedules)
    changed = [key for key, value in wanted.items() if held.get(key) != value]
    if not changed:
        return found.id, None
    await _save(client, flow, told["name"], wanted)
    return found.id, f"updated deployment {named}: {', '.join(changed)}"


def _wanted(told: Mapping[str, Any], flow: Flow[..., Any]) -> dict[str, Any]:
    """What a deployment is told to be, as the server would say it."""
    pool, limit = told["work_pool"], told.get("concurrency_limit") or {}
    schedules = [_schedule(each) for each in told.get("schedules", ())]
    options = ConcurrencyOptions(collision_strategy=limit["collision_strategy"]) if limit else None
    return {
        "description": told["description"].strip(),
        "entrypoint": told["entrypoint"],
        "tags": told["tags"],
        "parameters": told.get("parameters", {}),
        "parameter_openapi_schema": parameter_schema(flow).model_dump(exclude_unset=True),
        "work_pool_name": pool["name"],
        "work_queue_name": pool["work_queue_name"],
        "job_variables": pool.get("job_variables", {}),
        "pull_steps": [],
        "concurrency_limit": limit.get("limit"),
        "concurrency_options": None if options is None else options.model_dump(mode="json"),
        "schedules": _by_slug(each.model_dump(mode="json", include=_SCHEDULED) for each in schedules),
    }


def _by_slug(schedules: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(schedules, key=lambda schedule: schedule["slug"] or "")


def _schedule(told: Mapping[str, Any]) -> DeploymentScheduleCreate:
    timing = {key: told[key] for key in ("cron", "interval", "rrule", "timezone") if key in told}
    return DeploymentScheduleCreate.model_validate(
        {"schedule": timing, "slug": told.get("slug"), "parameters": told.get("parameters", {})}
    )


async def _save(client: PrefectClient, flow: Flow[..., Any], name: str, wanted: Mapping[str, Any]) -> UUID:
    flow_id = await client.create_flow_from_name(flow.name)
    deployment = DeploymentCreate.model_validate({**wanted, "name": name, "flow_id": flow_id})
    response = await client.request(
        "POST", "/deployments/", json=deployment.model_dump(mode="json", exclude_unset=True)
    )
    return UUID(response.json()["id"])


def _triggers(told: Mapping[str, Any], deployment: UUID) -> list[AutomationCore]:
    """The automations that start a deployment."""
    automations = []
    for each in told.get("triggers", ()):
        trigger = _TRIGGER.validate_python(dict(each))
        trigger.set_deployment_id(deployment)
        automations.append(trigger.as_automation())
    return automations


async def _bring_automation(client: PrefectClient, wanted: AutomationCore) -> str | None:
    found = await client.read_automations_by_name(wanted.name)
    if not found:
        await client.create_automation(wanted)
        return f"created automation {wanted.name!r}"
    held = AutomationCore.model_validate(found[0].model_dump())
    changed = [key for key in ("description", "trigger", "actions") if _plain(held, key) != _plain(wanted, key)]
    if not changed:
        return None
    await client.update_automation(found[0].id, wanted)
    return f"updated automation {wanted.name!r}: {', '.join(changed)}"


def _plain(automation: AutomationCore, key: str) -> Any:
    """A part of an automation as JSON, in which sets are in order."""

    def ordered(value: Any) -> Any:
        match value:
            case dict():
                return {name: ordered(each) for name, each in value.items()}
            case list() if all(isinstance(each, str) for each in value):
                return sorted(value)
            case list():
                return [ordered(each) for each in value]
            case _:
                return value

    return ordered(automation.model_dump(mode="json")[key])


def _refused(api_url: str, error: PrefectHTTPStatusError) -> StoreError:
    if error.response.status_code in {401, 403}:
        return StoreError(
            f"the Prefect server at {api_url} does not let this client in",
            subject=api_url,
            fix="set PREFECT_API_AUTH_STRING to what it was started with",
        )
    return StoreError(f"the Prefect server at {api_url} refused it: {error.response.text}", subject=api_url)
