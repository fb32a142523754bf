"""The deployments: prefect.yaml by Prefect's own models, and a server that is brought to it, once and again."""

from __future__ import annotations

import asyncio
import inspect
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from prefect.cli.deploy._models import PrefectYamlModel
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL
from prefect.utilities.callables import parameter_schema

from deployments import deploy as deploying
from deployments.automations import AUTOMATIONS
from deployments.deploy import FILE, deploy, flow_of, read_deployments
from deployments.pools import POOLS
from flows import server
from shiftql.cli import main
from storage.errors import StoreError

ROOT = Path(__file__).parents[2]
TOLD = read_deployments()
NAMES = [told["name"] for told in TOLD]
QUEUES = {(pool.name, queue.name) for pool in POOLS for queue in pool.queues}


@pytest.fixture
def api_url(prefect_server: None) -> str:
    return str(PREFECT_API_URL.value())


def test_prefect_reads_the_file_and_no_word_of_it_is_unknown() -> None:
    raw = yaml.safe_load(FILE.read_text())
    read = PrefectYamlModel.model_validate(raw)
    assert [each.name for each in read.deployments] == NAMES
    known = PrefectYamlModel.model_fields.keys() | {"prefect-version"}
    assert raw.keys() <= known
    for told, each in zip(raw["deployments"], read.deployments, strict=True):
        assert told.keys() <= type(each).model_fields.keys()
        assert each.work_pool is not None
        assert told["work_pool"].keys() <= type(each.work_pool).model_fields.keys()


def test_prefect_finds_the_same_file_at_the_root() -> None:
    assert (ROOT / "prefect.yaml").resolve() == FILE.resolve()


@pytest.mark.parametrize("told", TOLD, ids=NAMES)
def test_every_deployment_has_a_flow_a_queue_and_words_for_people(told: dict[str, Any]) -> None:
    assert inspect.iscoroutinefunction(flow_of(told).fn)
    assert (told["work_pool"]["name"], told["work_pool"]["work_queue_name"]) in QUEUES
    assert told["description"]
    assert told["tags"]


@pytest.mark.parametrize("told", TOLD, ids=NAMES)
def test_every_field_of_a_form_is_described_and_typed(told: dict[str, Any]) -> None:
    schema = parameter_schema(flow_of(told))
    for name, field in schema.properties.items():
        assert field.get("description"), f"{told['name']}: {name}"
        assert field.keys() & {"type", "anyOf", "enum", "$ref", "allOf"}, f"{told['name']}: {name}"
        assert "default" in field or name in (schema.required or [])
    assert told.get("parameters", {}).keys() <= schema.properties.keys()


def test_a_server_is_brought_up_to_date_once(api_url: str) -> None:
    deploy(api_url, lambda change: None)
    told: list[str] = []
    assert deploy(api_url, told.append) == 0
    assert told == []
    with get_client(sync_client=True) as client:
        for pool, queue in QUEUES:
            names = {
                each["name"] for each in client.request("POST", f"/work_pools/{pool}/queues/filter", json={}).json()
            }
            assert queue in names
        for each in TOLD:
            found = client.read_deployment_by_name(f"{flow_of(each).name}/{each['name']}")
            assert found.entrypoint == each["entrypoint"]
        assert {each.name for each in AUTOMATIONS} <= {each.name for each in client.read_automations()}


def test_what_somebody_changed_is_put_right_and_told(api_url: str) -> None:
    deploy(api_url, lambda change: None)
    with get_client(sync_client=True) as client:
        search = client.read_deployment_by_name("search/search")
        client.request("PATCH", f"/deployments/{search.id}", json={"description": "mine", "tags": []})
        client.request("PATCH", "/work_pools/cpu/queues/queries", json={"concurrency_limit": 3})
        lost = next(each for each in client.read_automations() if each.name == AUTOMATIONS[0].name)
        client.request("DELETE", f"/automations/{lost.id}")
    told: list[str] = []
    deploy(api_url, told.append)
    assert told == [
        "updated work queue cpu/queries: concurrency_limit",
        "updated deployment search/search: description, tags",
        f"created automation '{lost.name}'",
    ]


def test_prefects_own_command_deploys_the_same(api_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from prefect.cli.deploy._core import _run_single_deploy
    from rich.console import Console

    deploy(api_url, lambda change: None)
    monkeypatch.chdir(ROOT)
    raw = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    with Path(os.devnull).open("w") as nowhere:
        asyncio.run(
            _run_single_deploy(
                raw["deployments"][0],
                {"pull": raw["pull"]},
                console=Console(file=nowhere),
                is_interactive=lambda: False,
            )
        )
    assert deploy(api_url, lambda change: None) == 0


def test_schedules_and_triggers_are_kept_up_too(api_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nightly = {
        **TOLD[0],
        "name": "nightly",
        "parameters": {"statement": "SHOW MODELS"},
        "schedules": [{"cron": "0 3 * * *", "timezone": "UTC", "slug": "nightly"}],
        "triggers": [{"type": "event", "name": "on a model", "expect": ["shift.model.registered"], "enabled": False}],
    }
    monkeypatch.setattr(deploying, "read_deployments", lambda: [nightly])
    told: list[str] = []
    deploy(api_url, told.append)
    assert told[-2:] == ["created deployment search/nightly", "created automation 'on a model'"]
    assert deploy(api_url, told.append) == 0
    nightly["schedules"][0]["cron"] = "0 4 * * *"
    deploy(api_url, told.append)
    assert told[-1] == "updated deployment search/nightly: schedules"
    with get_client(sync_client=True) as client:
        client.delete_deployment(client.read_deployment_by_name("search/nightly").id)


def test_the_command_says_what_changed(api_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_API_URL", api_url)
    deploy(api_url, lambda change: None)
    assert CliRunner().invoke(main, ["deploy"]).output == "nothing changed\n"


def test_without_a_server_it_says_how_to_get_one(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "is_api_configured", lambda: False)
    ran = CliRunner().invoke(main, ["deploy"])
    assert ran.exit_code == 1
    assert "start one with 'shiftql up', or set PREFECT_API_URL" in ran.output
    with pytest.raises(StoreError, match=r"no Prefect server answers at http://127\.0\.0\.1:1/api"):
        deploy("http://127.0.0.1:1/api", lambda change: None)
