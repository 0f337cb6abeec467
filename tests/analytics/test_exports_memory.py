"""An export takes as much memory for many rows as for few; a process of its own says how much."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from django.db import connection

from apps.analytics.models.exports import Export
from tests.analytics.exporting import order
from tests.fleet import ROOT
from tests.fleet import test_database_url as database_url

ROWS = 200_000
RSS_MAX_MB = 200
GROWTH_MAX_MB = 12

WORKER = """
import json, django
django.setup()
from apps.analytics.exports import running, writing
from apps.analytics.models.exports import Export
def peak():
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
peaks = []
commit = running._commit
def noting(*args):
    commit(*args)
    peaks.append(peak())
running._commit = noting
running.STEP_MAX_S = 0.1
while running.export_step():
    pass
print(json.dumps(peaks))
"""


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("gzip", [False, True], ids=["plain", "compressed"])
def test_memory_does_not_grow_with_the_rows(application, server, private_files, gzip):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO subscriptions_appuser (id, application_id, external_id, properties, created_at, updated_at,"
            " is_archived) SELECT ('01900000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, %s, 'user-' || n,"
            " jsonb_build_object('n', n, 'city', 'Seoul'), now(), now(), false FROM generate_series(1, %s) n",
            [application.pk, ROWS],
        )
    order(server, "users", gzip=gzip)
    environment = {**os.environ, "DATABASE_URL": database_url(), "PRIVATE_FILES_DIR": str(private_files)}
    worker = subprocess.run([sys.executable, "-c", WORKER], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert worker.returncode == 0, worker.stderr
    peaks = json.loads(worker.stdout.splitlines()[-1])
    export = Export.objects.get()
    assert (export.state, export.rows_written) == ("done", ROWS)
    assert len(peaks) >= len(export.parts) >= 2
    assert peaks[-1] < RSS_MAX_MB
    assert peaks[-1] - peaks[0] < GROWTH_MAX_MB
