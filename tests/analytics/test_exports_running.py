"""Writing a file step by step: killed, canceled, taken over, out of space, too large, and deleted in the end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from django.conf import settings as django_settings
from django.core.files.storage import FileSystemStorage
from django.utils import timezone

from apps.analytics import tasks
from apps.analytics.exports import running, writing
from apps.analytics.exports.resources import UsersExport
from apps.analytics.models.exports import Export, ExportState
from apps.messaging import stopping
from apps.subscriptions.models import AppUser
from apps.tenants.models import Application
from automata_signal import private_files
from tests.analytics.exporting import body_of, link_of, order, table, work
from tests.factories import make_user
from tests.fleet import ROOT
from tests.fleet import test_database_url as database_url

pytestmark = pytest.mark.django_db


@pytest.fixture
def folder(tmp_path, settings) -> Path:
    """Where the files of this test are."""
    place = {"BACKEND": "django.core.files.storage.FileSystemStorage", "OPTIONS": {"location": str(tmp_path / "files")}}
    settings.STORAGES = {**django_settings.STORAGES, "private": place}
    return tmp_path / "files" / "exports"


@pytest.fixture
def small_steps(monkeypatch):
    """A step is a page, and a page seven rows."""
    monkeypatch.setattr(writing, "PAGE_ROWS", 7)
    monkeypatch.setattr(running, "STEP_MAX_S", 0.0)


@pytest.fixture
def users(application) -> list[AppUser]:
    return [make_user(application, f"u{number:02}") for number in range(30)]


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


# --- Killed --------------------------------------------------------------------------------------------------------

WORKER = """
import os, signal, django
django.setup()
from apps.analytics.exports import running, writing
writing.PAGE_ROWS, running.STEP_MAX_S = 7, {step_s}
def killed(*args):
    os.kill(os.getpid(), signal.SIGKILL)
running.{killed_in} = killed
running.export_step()
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("killed_in", "step_s"),
    [("_commit", 0.0), ("_renew_lease", 60.0), ("_sha256", 60.0)],
    ids=["a part is stored, its checkpoint is not", "in the middle of a part", "at the very end"],
)
def test_a_killed_worker_neither_loses_nor_doubles_a_row(server, users, folder, small_steps, killed_in, step_s):
    """A process of its own is killed with SIGKILL, twice with a step in between that is not."""
    made = order(server, "users")
    code = WORKER.format(killed_in=killed_in, step_s=step_s)
    environment = {**os.environ, "DATABASE_URL": database_url(), "PRIVATE_FILES_DIR": str(folder.parent)}
    for _ in range(2):
        worker = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True)
        assert worker.returncode == -signal.SIGKILL, worker.stderr
        row = Export.objects.get()
        assert len(files_in(folder)) == len(row.parts) + 1, "half a part, which nobody counts"
        assert not running.export_step(), "until its lease has ended nobody takes the export"
        Export.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
        running.export_step()
    work()
    rows = table(body_of(server.get(link_of(server, made["id"]))))
    assert [row["id"] for row in rows] == [str(user.pk) for user in users]
    row = Export.objects.get()
    assert row.rows_written == 30
    assert files_in(folder) == sorted(part["name"].partition("/")[2] for part in row.parts)


def test_a_worker_that_is_told_to_stop_gives_the_export_back(server, users, folder, monkeypatch):
    monkeypatch.setattr(writing, "PAGE_ROWS", 7)
    made = order(server, "users")
    stopping.stop()
    try:
        running.export_step()
    finally:
        stopping.forget()
    row = Export.objects.get()
    assert (row.state, row.rows_written, row.lease_id) == ("running", 7, None)
    work()
    assert len(table(body_of(server.get(link_of(server, made["id"]))))) == 30


def test_an_export_that_was_taken_over_is_not_written_by_the_first_worker(server, users, folder, small_steps):
    """It had slept for longer than its lease: its part is deleted, and the other's stays."""
    order(server, "users")
    sleeper = running._claim()
    assert sleeper is not None
    Export.objects.update(lease_until=timezone.now() - timedelta(seconds=1))
    running.export_step()
    with pytest.raises(running.Interrupted):
        running._write_part(sleeper)
    row = Export.objects.get()
    assert (row.rows_written, len(row.parts)) == (7, 1)
    assert files_in(folder) == [row.parts[0]["name"].partition("/")[2]]


# --- Turns ---------------------------------------------------------------------------------------------------------


def test_exports_take_turns_and_one_step_runs_at_a_time(application, other_application, server, stranger, small_steps):
    for number in range(20):
        make_user(application, f"u{number}")
        make_user(other_application, f"u{number}")
    first, second = order(server, "users")["id"], order(stranger, "users")["id"]
    written = []
    while running.export_step():
        rows = dict(Export.objects.values_list("pk", "rows_written"))
        written.append(tuple(rows.values()))
        assert max(rows.values()) - min(rows.values()) <= 7, "neither waits for the end of the other"
    assert len(written) >= 4
    assert {str(row.pk) for row in Export.objects.filter(state="done")} == {first, second}


def test_while_a_step_runs_no_other_begins(server, users):
    order(server, "users")
    order(server, "users")
    assert running._claim() is not None
    assert running._claim() is None
    assert not running.export_step()


def test_the_sweep_finds_what_the_broker_lost(server, users, monkeypatch):
    sent = []
    monkeypatch.setattr(running, "send_tasks", lambda tasks: sent.append(tasks))
    order(server, "users")
    assert tasks.continue_exports() is True
    assert sent[-1][0].name == "analytics.export_step"
    tasks.export_step(sent[-1][0].mark)
    assert Export.objects.get().state == ExportState.DONE
    assert tasks.continue_exports() is False


def test_an_application_has_no_more_than_its_share_on_the_way(application, server, stranger, settings):
    settings.EXPORTS_OPEN_MAX = 2
    first = order(server, "users")
    order(server, "campaigns")
    answer = server.post("exports", {"kind": "users"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "EXPORTS_BUSY")
    order(stranger, "users")
    assert server.post(f"exports/{first['id']}/cancel").status_code == 200
    order(server, "users")


# --- Canceled ------------------------------------------------------------------------------------------------------


def test_a_canceled_export_has_no_file(server, users, folder, small_steps):
    made = order(server, "users")
    running.export_step()
    assert files_in(folder)
    answer = server.post(f"exports/{made['id']}/cancel")
    assert answer.json()["data"]["state"] == "canceled"
    assert files_in(folder) == []
    assert not running.export_step()
    assert server.get(f"exports/{made['id']}").json()["data"]["download_url"] is None
    again = server.post(f"exports/{made['id']}/cancel")
    assert (again.status_code, again.json()["error"]["code"]) == (409, "EXPORT_STATE")


def test_a_worker_notices_a_cancel_with_its_next_page(server, users, folder, monkeypatch):
    monkeypatch.setattr(writing, "PAGE_ROWS", 7)
    made = order(server, "users")
    renew = running._renew_lease

    def canceled_meanwhile(export: Export) -> None:
        server.post(f"exports/{made['id']}/cancel")
        renew(export)

    monkeypatch.setattr(running, "_renew_lease", canceled_meanwhile)
    running.export_step()
    assert Export.objects.get().state == ExportState.CANCELED
    assert files_in(folder) == []


# --- What goes wrong -----------------------------------------------------------------------------------------------


class FullDisk(FileSystemStorage):
    """The first bytes find room, and then none do."""

    def _save(self, name, content):
        super()._save(name, _OutOfSpace(content))


class _OutOfSpace:
    def __init__(self, content) -> None:
        self.content = content

    def chunks(self, chunk_size=None):
        yield next(self.content.chunks())
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_fails_the_export_and_says_so(server, users, folder, settings):
    place = {"BACKEND": f"{FullDisk.__module__}.FullDisk", "OPTIONS": {"location": str(folder.parent)}}
    settings.STORAGES = {**django_settings.STORAGES, "private": place}
    made = order(server, "users")
    work()
    answer = server.get(f"exports/{made['id']}").json()["data"]
    assert answer["state"] == "failed"
    assert "no space left" in answer["last_error"]
    assert files_in(folder) == []


def test_a_folder_that_cannot_be_made_fails_the_export_and_says_so(server, users, tmp_path, settings):
    (tmp_path / "occupied").write_text("a file where the folder should be")
    place = {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {"location": str(tmp_path / "occupied")},
    }
    settings.STORAGES = {**django_settings.STORAGES, "private": place}
    made = order(server, "users")
    work()
    answer = server.get(f"exports/{made['id']}").json()["data"]
    assert answer["state"] == "failed"
    assert "could not be stored" in answer["last_error"]


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_folder_that_may_not_be_written_is_told_as_such(server, users, monkeypatch, code):
    def refused_write(name, chunks):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(running, "save_sealed", refused_write)
    made = order(server, "users")
    work()
    assert "may not write" in server.get(f"exports/{made['id']}").json()["data"]["last_error"]


def test_a_file_has_a_largest_size(server, users, folder, settings):
    settings.EXPORT_FILE_MAX_BYTES = 500
    made = order(server, "users")
    work()
    answer = server.get(f"exports/{made['id']}").json()["data"]
    assert (answer["state"], files_in(folder)) == ("failed", [])
    assert "more than 500 bytes" in answer["last_error"]


def test_a_database_that_breaks_off_is_asked_again_and_in_the_end_it_fails(server, users, monkeypatch):
    """A page takes longer than it may."""
    monkeypatch.setattr(writing, "STATEMENT_MAX_S", 0.05)
    monkeypatch.setattr(UsersExport, "table", "(SELECT *, pg_sleep(1) FROM subscriptions_appuser OFFSET 0) u")
    made = order(server, "users")
    for attempt in range(1, running.ATTEMPTS_MAX):
        assert not running.export_step(), "not at once"
        row = Export.objects.get()
        assert (row.state, row.attempts) == ("running", attempt)
        Export.objects.update(stepped_at=timezone.now())
    running.export_step()
    answer = server.get(f"exports/{made['id']}").json()["data"]
    assert answer["state"] == "failed"
    assert "broke off" in answer["last_error"]


# --- The end -------------------------------------------------------------------------------------------------------


def test_files_are_deleted_when_their_time_is_over_and_the_record_stays(server, users, folder, settings):
    settings.EXPORT_KEEP_HOURS = 1
    made = order(server, "users")
    work()
    link = link_of(server, made["id"])
    assert tasks.expire_exports() == 0
    Export.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert server.get(link).status_code == 404, "before the sweep as well"
    assert tasks.expire_exports() == 1
    assert files_in(folder) == []
    answer = server.get(f"exports/{made['id']}").json()["data"]
    assert (answer["state"], answer["rows_written"], answer["download_url"]) == ("expired", 30, None)
    assert tasks.expire_exports() == 0


def test_what_lies_on_the_disk_is_not_readable(server, users, folder):
    order(server, "users")
    work()
    [name] = files_in(folder)
    assert b"u01" not in (folder / name).read_bytes()
    assert b"u01" in b"".join(private_files.read_sealed(f"exports/{name}"))


def test_a_killed_export_of_an_application_that_is_gone_leaves_no_work(application, server, users):
    order(server, "users")
    Application.objects.filter(pk=application.pk).delete()
    assert not running.export_step()
