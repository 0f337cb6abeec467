"""The deployment files, held against the settings, the modules and the parsers that they speak of."""

from __future__ import annotations

import ast
import importlib.util
import re
import shlex
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml
from celery.bin.base import CLIContext
from celery.bin.celery import celery as celery_command
from django.conf import settings
from django.core.management import get_commands
from django.utils.module_loading import import_string
from granian.cli import cli as granian_command

from automata_signal.celery import app as celery_app

ROOT = Path(__file__).resolve().parents[1]
PROCESSES = ("web", "live", "worker-high", "worker-medium", "worker-low", "worker-control", "worker-webhooks", "beat")

NOT_OURS = {
    "DJANGO_SETTINGS_MODULE": "Django reads it before the settings",
    "AUTOMATA_SANDBOX": "the switch of apps/sandbox",
    "PROMETHEUS_MULTIPROC_DIR": "automata_signal.metrics, and Prometheus' client library",
    "WORKER_NAME": "for compose's health check of a worker",
    "IMAGE": "compose: the image's name",
    "WEB_PORT": "compose: the published port",
    "LIVE_PORT": "the port of the process live",
    "PORT": "the web server's command line",
    "FLOWER_BASIC_AUTH": "Flower itself, user:password",
    "FLOWER_PORT": "compose: the published port of Flower",
    "GRAFANA_PASSWORD": "deploy/monitoring: Grafana's first user",
    "MPLCONFIGDIR": "matplotlib, where it keeps its fonts",
    "POSTGRES_USER": "the PostgreSQL image",
    "POSTGRES_DB": "the PostgreSQL image",
    "POSTGRES_PASSWORD": "the PostgreSQL image, and part of DATABASE_URL",
    "REDIS_PASSWORD": "part of REDIS_URL",
    "REDISCLI_AUTH": "redis-cli",
    "PATH": "the shell",
    "PYTHONUNBUFFERED": "Python",
    "PYTHONDONTWRITEBYTECODE": "Python",
}
"""Variables of the deployment files that the settings do not read, and who does."""


def text(name: str) -> str:
    return (ROOT / name).read_text()


def compose() -> dict[str, Any]:
    return dict(yaml.safe_load(text("docker-compose.yml")))


def fly() -> dict[str, Any]:
    return tomllib.loads(text("fly.toml"))


def procfile_commands() -> dict[str, list[str]]:
    return {
        name: shlex.split(command) for name, command in (line.split(": ", 1) for line in text("Procfile").splitlines())
    }


def compose_commands() -> dict[str, list[str]]:
    return {name: service["command"] for name, service in compose()["services"].items() if "command" in service}


def fly_commands() -> dict[str, list[str]]:
    return {name: shlex.split(command) for name, command in fly()["processes"].items()}


def dockerfile_command() -> list[str]:
    [line] = re.findall(r"^CMD (\[.*\])$", text("Dockerfile"), re.MULTILINE)
    return list(ast.literal_eval(line))


PLACES = {"Procfile": procfile_commands, "docker-compose.yml": compose_commands, "fly.toml": fly_commands}


def without_environment(command: list[str]) -> list[str]:
    """`env A=1 B=2 program …` → `program …`"""
    if command[0] != "env":
        return command
    return command[next(i for i, word in enumerate(command) if i and "=" not in word) :]


def parsed_web(command: list[str]) -> dict[str, Any]:
    """The options as granian itself reads them; SystemExit or a click error when it would refuse them."""
    words = [re.sub(r"\$\{(?:LIVE_)?PORT:-(\d+)\}", r"\1", word) for word in without_environment(command)]
    assert words[0] == "granian"
    return dict(granian_command.make_context("granian", words[1:]).params)


def parsed_celery(command: list[str]) -> tuple[str, dict[str, Any]]:
    """The subcommand (worker, beat) and its options as celery itself reads them; a click error as with granian."""
    words = without_environment(command)
    assert words[:3] == ["celery", "-A", "automata_signal"]
    subcommand = celery_command.commands[words[3]]
    of_celery = CLIContext(app=celery_app, no_color=True, workdir=None, quiet=True)
    return words[3], dict(subcommand.make_context(words[3], words[4:], obj=of_celery).params)


def served_queues(commands: dict[str, list[str]]) -> list[str]:
    return [
        queue
        for name, command in commands.items()
        if name.startswith("worker-")
        for queue in parsed_celery(command)[1]["queues"]
    ]


@pytest.mark.parametrize("place", PLACES)
def test_every_process_is_there_and_every_queue_is_served_once(place):
    commands = PLACES[place]()
    assert set(PROCESSES) <= set(commands)
    assert sorted(served_queues(commands)) == sorted(queue.name for queue in settings.CELERY_TASK_QUEUES)


def test_a_campaign_never_shares_a_worker_with_a_one_time_password():
    for commands in (place() for place in PLACES.values()):
        high = set(parsed_celery(commands["worker-high"])[1]["queues"])
        assert {queue.rsplit(".", 1)[-1] for queue in high} == {"high"}


@pytest.mark.parametrize("process", [name for name in PROCESSES if name not in ("web", "live")])
def test_workers_and_beat_are_started_alike_everywhere(process):
    first, *others = (parsed_celery(place()[process]) for place in PLACES.values())
    assert all(other == first for other in others)


def test_the_web_is_started_alike_everywhere_but_for_its_port():

    def common(command: list[str]) -> dict[str, Any]:
        return {name: value for name, value in parsed_web(command).items() if name != "port"}

    first, *others = [common(place()["web"]) for place in PLACES.values()] + [common(dockerfile_command())]
    assert all(other == first for other in others)
    assert callable(import_string(first["app"].replace(":", ".")))


def test_the_live_process_is_started_alike_everywhere_and_takes_as_many_streams_as_its_settings():
    first, *others = [parsed_web(place()["live"]) for place in PLACES.values()]
    assert all(other | {"port": first["port"]} == first for other in others)
    assert first["backpressure"] > settings.LIVE_CONNECTIONS_MAX
    assert callable(import_string(first["app"].replace(":", ".")))


def test_the_web_has_a_pooled_connection_for_each_of_its_threads():
    pools = [service["environment"] for name, service in compose()["services"].items() if name == "web"]
    pools += [
        dict(word.split("=", 1) for word in place()["web"] if "=" in word)
        for place in (procfile_commands, fly_commands)
    ]
    for pool, place in zip(pools, (compose_commands, procfile_commands, fly_commands), strict=True):
        assert int(pool["DATABASE_POOL_MAX"]) == parsed_web(place()["web"])["blocking_threads"]


def test_the_demo_starts_the_same_processes():
    from tools.processes import Addresses, demo_processes

    folders = {"ca_dir": Path(), "metrics_dir": Path()}
    ports = {item.name: 1 for item in fields(Addresses) if item.name not in folders}
    specs = {spec.name: list(spec.command) for spec in demo_processes(Addresses(**ports, **folders))}
    queues = [
        queue
        for name, command in specs.items()
        if "worker" in command
        for queue in command[command.index("--queues") + 1].split(",")
    ]
    assert sorted(queues) == sorted(queue.name for queue in settings.CELERY_TASK_QUEUES)
    web = specs["web"][specs["web"].index("granian") :]
    deployed = parsed_web(procfile_commands()["web"])
    assert {k for k, v in parsed_web(web).items() if v != deployed[k]} <= {"host", "port"}
    live = specs["live"][specs["live"].index("granian") :]
    deployed = parsed_web(procfile_commands()["live"])
    assert {k for k, v in parsed_web(live).items() if v != deployed[k]} <= {"host", "port"}


def manage_commands() -> Iterator[str]:
    yield procfile_commands()["release"][procfile_commands()["release"].index("manage.py") + 1]
    release = shlex.split(fly()["deploy"]["release_command"])
    yield release[release.index("manage.py") + 1]
    yield from (command[2] for command in compose_commands().values() if command[1:2] == ["manage.py"])
    yield from re.findall(r"python manage\.py (\w+)", text("Dockerfile"))


def test_management_commands_and_modules_that_are_named_exist():
    assert set(manage_commands()) <= set(get_commands())
    modules = [command[2] for command in compose_commands().values() if command[:2] == ["python", "-m"]]
    assert modules
    assert all(importlib.util.find_spec(module) for module in modules)


def test_the_sandbox_understands_its_command_lines():
    from apps.sandbox.__main__ import _parser

    for name, service in compose()["services"].items():
        if name in ("sandbox-apns", "sandbox-fcm"):
            assert _parser().parse_args(service["command"][3:]).command == name.removeprefix("sandbox-")
            assert service["profiles"] == ["sandbox"]


# --- Files -------------------------------------------------------------------------------------------------------


def test_what_the_image_copies_is_there_and_gets_past_dockerignore():
    sources = [
        source
        for line in re.findall(r"^COPY (?!--from)(.+)$", text("Dockerfile"), re.MULTILINE)
        for source in line.split()[:-1]
    ]
    assert sources == ["requirements/runtime.lock", "."]
    assert all((ROOT / source).exists() for source in sources)
    kept = [line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")]
    needed = ["manage.py", "requirements/runtime.lock", "automata_signal", "apps", "templates"]
    assert set(needed) <= set(kept)
    assert all((ROOT / name).exists() for name in needed)


@pytest.mark.parametrize("name", [".env", ".git", ".local", ".venv", "tests", "docs", ".tools"])
def test_what_is_no_part_of_the_product_stays_out_of_the_image(name):
    lines = text(".dockerignore").splitlines()
    assert "*" in lines
    assert not any(fnmatch(name, line[1:]) for line in lines if line.startswith("!"))


def test_the_image_runs_as_nobody_special_and_checks_its_health():
    dockerfile = text("Dockerfile")
    assert re.findall(r"^USER (\w+)$", dockerfile, re.MULTILINE) == ["automata"]
    assert "--require-hashes" in dockerfile
    assert "/healthz" in dockerfile
    assert "AUTOMATA_ENV=production" in dockerfile


def test_the_services_that_compose_speaks_of_exist_and_are_waited_for():
    content = compose()
    services, volumes = content["services"], content["volumes"]
    for service in services.values():
        assert set(service.get("depends_on", {})) <= set(services)
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in volumes
    assert services["postgres"]["image"] == "postgres:17"
    assert {"--appendonly", "noeviction"} <= set(services["redis"]["command"])
    for name in PROCESSES:
        assert services[name]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"


def test_fly_checks_what_the_product_answers():
    content = fly()
    assert content["primary_region"] == "nrt"
    assert set(content["processes"]) == set(PROCESSES)
    assert {name for vm in content["vm"] for name in vm["processes"]} == set(PROCESSES)
    web = parsed_web(fly_commands()["web"])
    assert content["http_service"]["internal_port"] == web["port"]
    assert [check["path"] for check in content["http_service"]["checks"]] == ["/readyz"]
    asked = {name: place for place in content["metrics"] for name in place["processes"]}
    assert set(asked) == set(PROCESSES) - {"beat"}
    assert {place["path"] for place in asked.values()} == {"/metrics"}
    live = parsed_web(fly_commands()["live"])
    [service] = content["services"]
    assert (service["processes"], service["internal_port"]) == (["live"], live["port"])
    worker_port = int(content["env"]["METRICS_ADDRESS"].rpartition(":")[2])
    own_ports = {"web": web["port"], "live": live["port"]}
    assert all(place["port"] == own_ports.get(name, worker_port) for name, place in asked.items())


def test_each_service_counts_in_a_folder_of_its_own():
    commands = procfile_commands()
    folders = {name: assigned(command).get("PROMETHEUS_MULTIPROC_DIR") for name, command in commands.items()}
    counting = [name for name in PROCESSES if name != "beat"]
    assert len({folders[name] for name in counting} - {None}) == len(counting)
    ports = [assigned(commands[name])["METRICS_ADDRESS"] for name in counting if name not in ("web", "live")]
    assert len(set(ports)) == len(ports)
    [container] = re.findall(r"^ENV PROMETHEUS_MULTIPROC_DIR=(.+)$", text("Dockerfile"), re.MULTILINE)
    assert text("Dockerfile").index("USER automata") < text("Dockerfile").index(container), "root's folder is refused"


def assigned(command: list[str]) -> dict[str, str]:
    """`env A=1 B=2 program …` → A and B"""
    return dict(word.split("=", 1) for word in command if re.match(r"[A-Z][A-Z0-9_]+=", word))


def test_the_workflow_calls_what_every_change_must_pass():
    workflow = yaml.safe_load(text(".github/workflows/ci.yml"))
    job = workflow["jobs"]["checks"]
    assert job["strategy"]["matrix"]["python"] == ["3.11", "3.12", "3.13"]
    assert any(".ci/run" in step.get("run", "") for step in job["steps"])
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


# --- Environment variables ---------------------------------------------------------------------------------------


def variables_of_the_settings() -> set[str]:
    """First arguments of `env.…()`, `secret()` and `provider_url()` in settings.py."""
    found = set()
    for node in ast.walk(ast.parse(text("automata_signal/settings.py"))):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.value if isinstance(node.func, ast.Attribute) else node.func
            if isinstance(function, ast.Name) and function.id in ("env", "secret", "provider_url"):
                found.add(str(node.args[0].value))
    assert {"SECRET_KEY", "DATABASE_URL", "APNS_URL", "LOG_JSON"} <= found
    return found


def variables_of_the_deployment() -> set[str]:
    found = set(re.findall(r"^(?:# )?([A-Z][A-Z0-9_]+)=", text(".env.example"), re.MULTILINE))
    found |= set(re.findall(r"\$\{([A-Z][A-Z0-9_]+)", text("docker-compose.yml") + text("Procfile")))
    found |= {name for service in compose()["services"].values() for name in service.get("environment", {})}
    found |= set(fly()["env"])
    for command in (
        *procfile_commands().values(),
        *fly_commands().values(),
        shlex.split(fly()["deploy"]["release_command"]),
    ):
        found |= {word.split("=")[0] for word in command if re.match(r"[A-Z][A-Z0-9_]+=", word)}
    [image] = re.findall(r"^ENV ((?:.*\\\n)*.*AUTOMATA_ENV(?:.*\\\n)*.*)$", text("Dockerfile"), re.MULTILINE)
    found |= set(re.findall(r"\b([A-Z][A-Z0-9_]+)=", image))
    return found


def test_the_settings_read_every_variable_that_a_deployment_sets():
    assert variables_of_the_deployment() - set(NOT_OURS) <= variables_of_the_settings()


def test_the_exceptions_are_still_in_use():
    assert set(NOT_OURS) <= variables_of_the_deployment()
    assert not set(NOT_OURS) & variables_of_the_settings()


def test_compose_asks_for_every_secret_that_production_refuses_to_start_without():
    required = set(re.findall(r"\$\{([A-Z_]+):\?", text("docker-compose.yml")))
    secrets = set(re.findall(r'secret\("([A-Z_]+)"', text("automata_signal/settings.py")))
    assert secrets <= required
    empty = set(re.findall(r"^([A-Z_]+)=$", text(".env.example"), re.MULTILINE))
    assert secrets <= empty, "the example must not hold a secret that somebody could leave in place"


def test_every_variable_is_documented():
    page = ROOT / "docs" / "operations.md"
    if not page.exists():
        pytest.skip("docs/operations.md is not written yet")
    documented = set(re.findall(r"`([A-Z][A-Z0-9_]+)`", page.read_text()))
    assert variables_of_the_settings() <= documented
