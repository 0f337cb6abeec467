"""Reading from a streaming replica of the tests' own PostgreSQL, made by pg_basebackup as an operator would."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import settings
from django.db import OperationalError, connections, transaction

from apps.tenants.models import Application
from automata_signal import figures, replica
from automata_signal.replica import PRIMARY, REPLICA, read, read_alias, reading
from tests import fleet
from tests.fleet import ROOT, wait_until
from tests.monitoring.series import value
from tools.services import postgres_account, postgres_environment, run_as

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180)]


class Standby:
    """A replica that can be stopped, frozen and started again."""

    def __init__(self, folder: Path) -> None:
        self.account = postgres_account()
        self.folder = folder
        self.sockets = folder / "s"
        self.data = folder / "data"
        for made in (self.folder, self.sockets):
            made.mkdir(mode=0o700)
            if self.account.uid is not None:
                os.chown(made, self.account.uid, self.account.gid or self.account.uid)
        with connections[PRIMARY].cursor() as cursor:
            cursor.execute("SELECT current_setting('data_directory'), current_setting('unix_socket_directories')")
            data, self.primary_sockets = cursor.fetchone()
            cursor.execute("SHOW port")
            self.port = cursor.fetchone()[0]
        # The binaries of the very server that runs: a replica needs the same version.
        with Path(data, "postmaster.opts").open() as options:
            self.binaries = Path(options.read().split('"')[0].strip()).parent
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, name: str, *arguments: str) -> None:
        env = postgres_environment(os.environ)
        done = run_as(self.account, [self.binaries / name, *arguments], env)
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        if not self.data.exists():
            where = ["-h", self.primary_sockets, "-p", self.port, "-U", "postgres"]
            self.run("pg_basebackup", *where, "-D", str(self.data), "-R", "-X", "stream", "--checkpoint=fast")
        options = f"-k {self.sockets} -p 5433 -c listen_addresses='' -c fsync=off -c max_connections=200"
        self.run("pg_ctl", "-D", str(self.data), "-o", options, "-l", str(self.folder / "log"), "-w", "start")

    def stop(self) -> None:
        run_as(
            self.account,
            [self.binaries / "pg_ctl", "-D", str(self.data), "-m", "immediate", "-w", "stop"],
            postgres_environment(os.environ),
        )

    def sql(self, statement: str) -> Any:
        with psycopg.connect(host=str(self.sockets), port=5433, user="postgres", autocommit=True) as connection:
            return connection.execute(statement).fetchone()[0]


@pytest.fixture(scope="module")
def standby(django_db_setup, django_db_blocker):
    folder = Path("/tmp") / f"automata-replica-{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    with django_db_blocker.unblock():
        made = Standby(folder)
        try:
            made.start()
            yield made
        finally:
            made.stop()
            shutil.rmtree(folder, ignore_errors=True)


def allow(alias: str, blocker) -> None:
    """Tests are refused connections to an alias that was not there when they began."""
    connections[alias].ensure_connection = blocker._real_ensure_connection.__get__(connections[alias])


@pytest.fixture
def copy(standby, monkeypatch, django_db_blocker):
    """The replica as DATABASE_REPLICA_URL would set it, looked at each time."""
    name = connections[PRIMARY].settings_dict["NAME"]
    monkeypatch.setattr(replica, "LOOK_S", 0.0)
    monkeypatch.setattr(replica, "AWAY_S", 0.0)
    monkeypatch.setattr(replica, "_watch", replica._Watch())
    database = {**connections[PRIMARY].settings_dict, "NAME": name, "HOST": str(standby.sockets), "PORT": "5433"}
    database["OPTIONS"] = {**database["OPTIONS"], "connect_timeout": 2}
    connections.settings[REPLICA] = database  # the same dictionary as settings.DATABASES
    assert REPLICA in settings.DATABASES
    allow(REPLICA, django_db_blocker)
    try:
        wait_until(lambda: read_alias() == REPLICA)
        yield standby
    finally:
        connections[REPLICA].close()
        del connections.settings[REPLICA]
        delattr(connections._connections, REPLICA)


def names(alias: str) -> list[str]:
    return list(Application.objects.using(alias).order_by("name").values_list("name", flat=True))


def test_without_the_setting_everything_is_read_from_the_primary():
    assert read_alias() == PRIMARY
    with reading() as alias:
        assert alias == PRIMARY


def test_the_setting_alone_makes_it_be_read(standby):
    name = connections[PRIMARY].settings_dict["NAME"]
    address = f"postgresql://postgres@:5433/{name}?host={standby.sockets}"
    code = "from automata_signal.replica import read, read_alias; print(read_alias(), read(lambda alias: alias))"
    done = subprocess.run(
        [sys.executable, "manage.py", "shell", "--verbosity", "0", "-c", code],
        cwd=ROOT,
        env={**os.environ, "DATABASE_URL": fleet.test_database_url(), "DATABASE_REPLICA_URL": address},
        capture_output=True,
        text=True,
    )
    assert done.stdout.strip() == "replica replica", done.stderr


def test_what_was_written_a_moment_ago_is_read_from_the_replica(copy):
    Application.objects.create(name="Copied")
    assert wait_until(lambda: read(names) == ["Copied"])
    assert read_alias() == REPLICA


def test_an_idle_primary_does_not_make_the_replica_look_old(copy):
    time.sleep(1.2)
    assert replica.state().lag_s < 0.5
    assert read_alias(max_lag_s=0.5) == REPLICA


def test_a_replica_that_is_too_far_behind_is_not_read(copy):
    Application.objects.create(name="Copied")  # and with it what the test before has truncated
    wait_until(lambda: names(REPLICA) == ["Copied"])
    copy.sql("SELECT pg_wal_replay_pause()")
    wait_until(lambda: copy.sql("SELECT pg_get_wal_replay_pause_state()") == "paused")
    try:
        Application.objects.create(name="Not copied yet")
        time.sleep(1.1)
        assert replica.state().lag_s > 0.9
        assert read_alias(max_lag_s=0.5) == PRIMARY
        assert read_alias(max_lag_s=60) == REPLICA
        assert read(names, max_lag_s=0.5) == ["Copied", "Not copied yet"]
        assert read(names, max_lag_s=60) == ["Copied"]
    finally:
        copy.sql("SELECT pg_wal_replay_resume()")
    wait_until(lambda: read_alias(max_lag_s=0.5) == REPLICA)


def test_inside_a_transaction_its_own_changes_are_seen(copy):
    with transaction.atomic():
        Application.objects.create(name="Ours")
        assert read_alias() == PRIMARY
        assert read(names) == ["Ours"]


def test_nothing_can_be_written_to_it(copy):
    with pytest.raises(Exception, match="read-only"):
        Application.objects.using(REPLICA).create(name="Nowhere")


def test_a_replica_that_ends_in_the_middle_costs_a_second_run_on_the_primary(copy):
    Application.objects.create(name="Here")
    wait_until(lambda: read(names) == ["Here"])
    seen = []

    def work(alias):
        seen.append(alias)
        if alias == REPLICA:
            copy.stop()
        return names(alias)

    try:
        assert read(work) == ["Here"]
        assert seen == [REPLICA, PRIMARY]
        assert read_alias() == PRIMARY
        assert not replica.state().is_up
    finally:
        copy.start()
    wait_until(lambda: read_alias() == REPLICA)


def test_work_that_takes_too_long_is_not_done_twice(copy):
    def slowly(alias):
        seen.append(alias)
        with connections[alias].cursor() as cursor:
            cursor.execute("SET statement_timeout = 50")
            try:
                cursor.execute("SELECT pg_sleep(5)")
            finally:
                cursor.execute("RESET statement_timeout")

    seen: list[str] = []
    with pytest.raises(OperationalError):
        read(slowly)
    assert seen == [REPLICA]
    assert read_alias() == REPLICA


def test_its_lag_is_on_the_page_of_metrics_and_in_readiness(copy, client, monkeypatch):
    monkeypatch.setattr(figures, "KEPT_S", 0.0)
    # On a busy machine a look may fail, and the next one does not.
    wait_until(lambda: value(client.get("/metrics").content, "automata_replica_up") == 1)
    wait_until(lambda: 0 <= value(client.get("/metrics").content, "automata_replica_lag_seconds") < 5)
    wait_until(lambda: client.get("/readyz").json()["checks"]["replica"])


def test_a_database_that_replays_nothing_is_not_taken_for_a_replica(copy, django_db_blocker):
    primary = connections[PRIMARY].settings_dict
    connections[REPLICA].close()
    delattr(connections._connections, REPLICA)
    connections.settings[REPLICA] = {**connections.settings[REPLICA], "HOST": primary["HOST"], "PORT": primary["PORT"]}
    allow(REPLICA, django_db_blocker)
    assert read_alias() == PRIMARY
    assert not replica.state().is_up
