"""Workers are killed, meet each other and meet the API: every row is there once, and nothing else."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading

import pytest
from django.conf import settings as django_settings
from django.db import connection

from apps.subscriptions import tasks
from apps.subscriptions.imports import steps
from apps.subscriptions.imports.models import Import
from apps.subscriptions.imports.steps import import_run
from apps.subscriptions.models import AppUser, Subscription, SubscriptionEvent
from apps.subscriptions.services import user_create
from tests import fleet
from tests.subscriptions.importing import checked, counts, upload, work

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = """
import resource, sys
import django
django.setup()
from uuid import UUID
from apps.subscriptions.imports import steps
steps.LINES_AT_ONCE = int(sys.argv[2])
print("ready", flush=True)
first = 0
while steps.import_run(UUID(sys.argv[1]), max_s=0.2):
    first = first or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(first, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""


def start_worker(run: Import, *, lines_at_once: int = steps.LINES_AT_ONCE) -> subprocess.Popen[str]:
    """A process of its own, as a worker is one."""
    environment = {
        **os.environ,
        "DATABASE_URL": fleet.test_database_url(),
        "DJANGO_SETTINGS_MODULE": "automata_signal.settings",
        "PRIVATE_FILES_DIR": django_settings.STORAGES["private"]["OPTIONS"]["location"],
    }
    return subprocess.Popen(
        [sys.executable, "-c", WORKER, str(run.pk), str(lines_at_once)],
        cwd=fleet.ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


def addresses(count: int) -> str:
    lines = (f"Email,p{n}@example.com,u{n % 97},yes,{n}\n" for n in range(count))
    return "type,token,external_id,enabled,tags.n:number\n" + "".join(lines)


def in_parallel(*calls) -> list:
    failures: list = []

    def guarded(call):
        try:
            call()
        except Exception as error:
            failures.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=guarded, args=[call]) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return failures


def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(application):
    run = upload(application, "subscriptions", addresses(3_000) + "Email,wrong,,,\n", mode="apply")
    chance = random.Random(4)
    kills = 0
    while Import.objects.get(pk=run.pk).is_working:
        worker = start_worker(run, lines_at_once=100)
        assert worker.stdout is not None
        worker.stdout.readline()
        try:
            worker.wait(timeout=chance.uniform(0.05, 0.6) if kills < 4 else 60)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
            kills += 1
        worker.stdout.close()
    run.refresh_from_db()
    assert (run.state, counts(run)) == ("done", {"total": 3_001, "created": 3_000, "rejected": 1}), run.last_error
    assert kills >= 2
    assert Subscription.objects.count() == 3_000
    assert AppUser.objects.count() == 97
    assert SubscriptionEvent.objects.count() == 9_000
    assert not keys_left(run)


def keys_left(run: Import) -> int:
    """Of this import: the table has no model, so that what other tests left in it stays."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM subscriptions_importkey WHERE import_id = %s", [run.pk])
        return cursor.fetchone()[0]


@pytest.mark.parametrize("kind", ["users", "subscriptions"])
def test_imports_of_the_same_people_at_once_make_each_once(application, monkeypatch, kind):
    monkeypatch.setattr(steps, "LINES_AT_ONCE", 50)
    text = addresses(600) if kind == "subscriptions" else "external_id\n" + "".join(f"u{n}\n" for n in range(600))
    header, *lines = text.splitlines(keepends=True)
    shuffled = [header, *random.Random(1).sample(lines, len(lines))]
    runs = [checked(application, kind, "".join(order)) for order in ([header, *lines], shuffled, shuffled[:400])]
    for run in runs:
        steps.begin_applying(run, by="tests")
        run.save()
    failures = in_parallel(*(lambda run=run: work(run) for run in runs))
    assert failures == []
    for run in runs:
        run.refresh_from_db()
    assert [run.state for run in runs] == ["done"] * 3
    assert [run.rejected_rows for run in runs] == [0] * 3
    assert sum(run.created_rows for run in runs) == 600
    if kind == "subscriptions":
        assert Subscription.objects.count() == 600
        assert SubscriptionEvent.objects.filter(event_type="registered").count() == 600


def test_two_workers_at_one_import_do_it_once(application, monkeypatch):
    monkeypatch.setattr(steps, "LINES_AT_ONCE", 20)
    run = upload(application, "users", "external_id\n" + "".join(f"u{n}\n" for n in range(800)), mode="apply")

    def until_over():
        while Import.objects.get(pk=run.pk).is_working:
            import_run(run.pk, max_s=0.1)

    assert in_parallel(until_over, until_over, until_over) == []
    run.refresh_from_db()
    assert (run.state, counts(run)) == ("done", {"total": 800, "created": 800})


def test_people_who_come_by_the_api_meanwhile_are_met(application, monkeypatch):
    """Between the look and the write: the chunk is looked at again."""
    run = checked(application, "users", "external_id,properties.n\na,1\nb,2\n")
    steps.begin_applying(run, by="tests")
    run.save()
    looked = steps.import_users
    came = []

    def meanwhile(*args, **kwargs):
        from apps.subscriptions.imports import users

        find = users.known_users

        def find_and_lose(*inner, **options):
            found = find(*inner, **options)
            if not came:
                came.append(in_parallel(lambda: user_create(application=application, external_id="a")))
            return found

        monkeypatch.setattr(users, "known_users", find_and_lose)
        return looked(*args, **kwargs)

    monkeypatch.setattr(steps, "import_users", meanwhile)
    run = work(run)
    assert came == [[]]
    assert (run.state, counts(run)) == ("done", {"total": 2, "created": 1, "updated": 1})
    assert AppUser.objects.get(external_id="a").properties == {"n": "1"}


def test_what_fails_again_and_again_fails_the_import(application, monkeypatch):
    run = upload(application, "users", "external_id\na\n")
    monkeypatch.setattr(steps, "import_users", lambda *args, **kwargs: 1 / 0)
    for _ in range(steps.ATTEMPTS):
        assert Import.objects.get(pk=run.pk).state != "failed"
        with pytest.raises(ZeroDivisionError):
            tasks.run_import(str(run.pk))
    run.refresh_from_db()
    assert (run.state, "logged" in run.last_error) == ("failed", True)


def test_an_import_that_was_lost_is_found_and_finished(application, monkeypatch):
    queued = []
    monkeypatch.setattr(steps, "send_tasks", queued.extend)
    run = upload(application, "users", "external_id\na\n", mode="apply")
    queued.clear()
    tasks.continue_imports()
    assert queued == []
    Import.objects.update(updated_at="2020-01-01T00:00:00Z")
    tasks.continue_imports()
    assert [(task.name, task.arguments, task.queue) for task in queued] == [
        ("subscriptions.run_import", [str(run.pk)], "control")
    ]
    tasks.run_import(str(run.pk))
    assert Import.objects.get(pk=run.pk).state == "done"


def test_a_cancel_goes_through_between_two_steps(application, server, monkeypatch):
    monkeypatch.setattr(steps, "LINES_AT_ONCE", 10)
    run = checked(application, "users", "external_id\n" + "".join(f"u{n}\n" for n in range(100)))
    server.post(f"imports/{run.pk}/apply")
    assert steps.import_step(run.pk)
    assert server.post(f"imports/{run.pk}/cancel").status_code == 200
    assert steps.import_step(run.pk) is False
    run.refresh_from_db()
    assert (run.state, run.created_rows, AppUser.objects.count()) == ("canceled", 10, 10)


@pytest.mark.timeout(300)
def test_memory_does_not_grow_with_the_file(application):
    rows = 200_000
    text = "external_id,properties.name,properties.age:number\n" + "".join(f"u{n},name {n},{n}\n" for n in range(rows))
    run = upload(application, "users", text, mode="apply")
    worker = start_worker(run)
    out, _ = worker.communicate(timeout=280)
    first, last = map(int, out.split()[1:])
    run.refresh_from_db()
    assert (run.state, run.created_rows) == ("done", rows), run.last_error
    assert last - first < 24 * 1024
