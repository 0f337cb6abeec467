"""`docs/operations.md`, held against the settings, the processes, the schedules and a database."""

from __future__ import annotations

import ast
import re
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import IntegrityError, connection, transaction
from django.urls import resolve
from django.utils import timezone

from apps.messaging.models import Message
from apps.messaging.partitions import make_partitions, stray_rows
from tests.docs.markdown import ROOT, codes, table, tables, text
from tests.factories import make_messages

PAGE = text("operations.md")
SETTINGS = ROOT / "automata_signal" / "settings.py"


# --- Settings ----------------------------------------------------------------------------------------------------


def settings_read() -> dict[str, ast.Call]:
    """Every call in settings.py that reads an environment variable, by the variable."""
    found = {}
    for node in ast.walk(ast.parse(SETTINGS.read_text())):
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.value if isinstance(node.func, ast.Attribute) else node.func
            if isinstance(function, ast.Name) and function.id in ("env", "secret", "provider_url"):
                found[str(node.args[0].value)] = node
    return found


def default_of(call: ast.Call) -> str | None:
    """The default as one would set it, if it stands there as a value; None if it is computed."""
    given = [*call.args[1:], *(keyword.value for keyword in call.keywords if keyword.arg == "default")]
    if not given or (isinstance(call.func, ast.Name) and call.func.id == "secret"):
        return None
    try:
        value = ast.literal_eval(given[0])
    except ValueError:
        return None
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def provider_defaults() -> dict[str, str]:
    for node in ast.walk(ast.parse(SETTINGS.read_text())):
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "_PROVIDER_DEFAULTS":
            return dict(ast.literal_eval(node.value))
    raise AssertionError("settings.py has no _PROVIDER_DEFAULTS")


def test_the_table_of_settings_is_complete_and_has_their_defaults():
    shown = {codes(row["Variable"])[0]: row["Default"] for row in table(PAGE, "Settings")}
    calls = settings_read()
    assert shown.keys() == calls.keys()
    known = {name: default_of(call) for name, call in calls.items()} | provider_defaults()
    stated = {name: default for name, default in known.items() if default}
    assert len(stated) > 30
    assert {name: codes(shown[name])[:1] for name in stated} == {name: [default] for name, default in stated.items()}
    without = {name for name, default in known.items() if default == ""}
    assert {name for name in shown if shown[name] == "none"} >= without


def test_the_table_says_which_secrets_production_needs():
    secrets = set(re.findall(r'secret\("([A-Z_]+)"', SETTINGS.read_text()))
    required = {codes(r["Variable"])[0] for r in table(PAGE, "Settings") if r["Default"] == "required in production"}
    assert required == secrets


# --- Processes, queues, schedules --------------------------------------------------------------------------------


def procfile() -> dict[str, str]:
    return dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())


def test_the_table_of_processes_has_those_of_the_procfile():
    shown = {name for row in table(PAGE, "Processes") for name in codes(row["Procfile"])}
    assert shown == procfile().keys() - {"release"}


def test_the_table_of_queues_has_every_queue_and_who_serves_it():
    shown = {queue: codes(row["Worker"])[0] for row in table(PAGE, "Queues") for queue in codes(row["Queues"])}
    assert shown.keys() == {queue.name for queue in settings.CELERY_TASK_QUEUES}
    served = {
        name: command.split("--queues ")[1].split(",") for name, command in procfile().items() if "--queues" in command
    }
    assert shown == {queue: worker for worker, queues in served.items() for queue in queues}


def test_the_table_of_schedules_has_every_schedule():
    shown = {codes(row["Task"])[0]: float(row["Every"].removesuffix(" s")) for row in table(PAGE, "Schedules")}
    assert shown == {entry["task"]: entry["schedule"] for entry in settings.CELERY_BEAT_SCHEDULE.values()}


# --- What to look at and what to run -----------------------------------------------------------------------------


@pytest.mark.parametrize("query", re.findall(r"^```sql\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
def test_every_query_runs(db, application, query):
    make_messages(application, ["pending", "errored", "successful"])
    with connection.cursor() as cursor:
        cursor.execute(query)
        assert cursor.description


def test_every_page_of_the_console_exists():
    addresses = re.findall(r"`(/(?:admin|healthz|readyz)[^`]*)`", PAGE)
    assert addresses
    for address in addresses:
        if address.startswith("/admin"):
            assert resolve(address).func


def test_every_log_line_is_one_that_is_written():
    source = "".join(
        path.read_text() for folder in ("apps", "automata_signal") for path in (ROOT / folder).rglob("*.py")
    )
    for row in table(PAGE, "Logs"):
        [event] = codes(row["Event"])
        level = {"error": "error|exception", "warning": "warning"}[row["Level"]]
        assert re.search(rf'log\.(?:{level})\(\s*"{re.escape(event)}"', source), event


def test_the_reasons_of_the_runbook_are_reasons_that_there_are():
    sources = "".join(path.read_text() for path in (ROOT / "apps" / "messaging" / "adapters").rglob("*.py"))
    for heading, column in (("Everything is errored", "Reason"), ("Breaker open", "Reason holds")):
        for row in tables(PAGE, heading)[-1]:
            for reason in codes(row[column]):
                assert f'"{reason}"' in sources, reason


def test_stray_rows_are_moved_as_the_page_says(db, application):
    """Beat was away: this month has no partition, its rows are in the default one, and the partition cannot be made."""
    assert "python manage.py check_partitions" in PAGE
    month = timezone.now()
    with connection.cursor() as cursor:
        for name in ("messaging_message", "messaging_messageevent"):
            cursor.execute(f"DROP TABLE {name}_p{month:%Y_%m}")
    message, _ = make_messages(application, ["pending", "successful"])
    assert stray_rows() == 2
    with pytest.raises(IntegrityError), transaction.atomic():
        make_partitions()
    call_command("check_partitions", "--repair", stdout=StringIO())
    assert stray_rows() == 0
    assert Message.objects.get(pk=message.pk).status == "pending"
    assert Message.objects.filter(created_at__gte=month - timedelta(minutes=1)).count() == 2
