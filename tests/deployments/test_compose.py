from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.server import _ENVIRONMENT

FOLDER = Path(__file__).parents[2] / "deployments"
TEXT = (FOLDER / "compose.yaml").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
# What is told to a service by these names is nobody else's to know.
SECRET = re.compile(r"PASSWORD|SECRET|TOKEN|AUTH_STRING|ACCESS_KEY")
NEEDED = r"\$\{[A-Z_]+:\?[^}]+\}"


def test_no_key_stands_twice() -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [each.value for each, _ in node.value]
        assert len(set(keys)) == len(keys), f"line {node.start_mark.line + 1}: {keys}"
        loader.flatten_mapping(node)
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    yaml.load(TEXT, Strict)


def test_every_secret_comes_from_the_environment() -> None:
    found = {name: value for service in SERVICES.values() for name, value in service.get("environment", {}).items()}
    secrets = {name: value for name, value in found.items() if SECRET.search(name)}
    assert len(secrets) > 5
    # None takes the variable from where it is started, if it is set there.
    assert {name for name, value in secrets.items() if value is not None and not re.search(NEEDED, value)} == set()


def test_no_password_stands_in_an_address() -> None:
    passwords = re.findall(r"://[^:/\s]+:(.*)@[a-z]", TEXT)
    assert passwords
    assert all(re.fullmatch(NEEDED, password) for password in passwords)


def test_nothing_is_started_without_the_secrets_it_needs() -> None:
    variables = set(re.findall(r"\$\{([A-Z_]+)", TEXT))
    with_default = set(re.findall(r"\$\{([A-Z_]+):-", TEXT))
    needed = set(re.findall(r"\$\{([A-Z_]+):\?", TEXT))
    assert needed == {"POSTGRES_PASSWORD", "SHIFT_TEAM_PASSWORD", "MLFLOW_SECRET_KEY"}
    assert variables == needed | with_default
    assert needed & with_default == set()


def test_the_prefect_server_of_a_team_batches_as_that_of_a_home_does() -> None:
    told = SERVICES["prefect"]["environment"]
    assert {name: told[name] for name in _ENVIRONMENT} == _ENVIRONMENT


def test_ports_are_open_to_this_machine_alone_unless_somebody_says_otherwise() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(port.startswith("${SHIFT_BIND:-127.0.0.1}:") for port in ports)


def test_both_servers_ask_who_is_there() -> None:
    assert "PREFECT_SERVER_API_AUTH_STRING" in SERVICES["prefect"]["environment"]
    assert "--app-name basic-auth" in SERVICES["mlflow"]["command"]
    assert "default_permission = READ" in COMPOSE["configs"]["mlflow-auth"]["content"]


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_runs_for_long_has_a_check_of_its_health_and_comes_back(name: str) -> None:
    if name != "deploy":
        assert SERVICES[name]["restart"] == "unless-stopped"
        assert SERVICES[name]["healthcheck"]["test"][0] == "CMD"


def test_every_module_that_is_run_is_there() -> None:
    commands = [shlex.split(service["command"]) for service in SERVICES.values()]
    modules = {words[words.index("-m") + 1] for words in commands if "-m" in words}
    assert modules == {"deployments.worker"}
    assert {words[0] for words in commands} == {"postgres", "prefect", "mlflow", "shiftql", "python"}


def test_the_image_has_every_package_and_what_servers_need() -> None:
    dockerfile = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    copied = set(re.findall(r"^COPY (\w+) \1$", dockerfile, flags=re.MULTILINE))
    assert copied == {"shiftql", "storage", "tasks", "flows", "deployments"}
    assert ".[postgres,server,s3]" in dockerfile
