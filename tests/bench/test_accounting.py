"""CPU, memory and connections, counted on processes of which we know what they do."""

import os
import subprocess
import sys
import time

import psycopg
import pytest

from bench.accounting import Meter, busy_s, cpu_s, name_of, parent_of, peak_rss_mb, tree

BURN = "import time\nend = time.process_time() + {seconds}\nwhile time.process_time() < end: pass\n"
CHILD = f"import subprocess, sys\nsubprocess.run([sys.executable, '-c', '''{BURN.format(seconds=0.3)}'''])\n"


@pytest.fixture
def burner():
    """Burns 0.3 s in a child that ends, then 0.4 s itself, says so, and waits for its input to close."""
    program = CHILD + BURN.format(seconds=0.4) + "print('done', flush=True)\nimport sys\nsys.stdin.read()\n"
    process = subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    yield process
    process.communicate()


def test_the_cpu_of_a_process_and_of_its_child_that_has_ended_is_counted(burner):
    with Meter({"burner": [burner.pid], "nobody": []}) as meter:
        burner.stdout.readline()
    # The interpreters' starts are in it too, and the meter may begin a moment after them.
    assert 0.65 < meter.usage.cpu_s["burner"] < 1.5
    assert meter.usage.cpu_s["nobody"] == 0
    assert meter.usage.others_cpu_s >= 0


def test_an_idle_process_costs_nothing(burner):
    burner.stdout.readline()
    with Meter({"burner": [burner.pid]}) as meter:
        time.sleep(0.2)
    assert meter.usage.cpu_s["burner"] < 0.05


def test_the_cpu_of_a_backend_that_ends_is_counted_and_its_connection_seen():
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url) as connection:
        if name_of(connection.info.backend_pid) != "postgres":
            pytest.skip("PostgreSQL runs on another machine")
        postmaster = parent_of(connection.info.backend_pid)
    with Meter({"PostgreSQL": [postmaster]}, database=url) as meter:
        with psycopg.connect(url) as connection:
            connection.execute("SELECT count(*) FROM generate_series(1, 3000000)")
        time.sleep(0.3)  # until its parent has waited for it
    assert meter.usage.cpu_s["PostgreSQL"] > 0.1
    assert meter.usage.connections >= 1


def test_connections_are_seen_however_short_the_measurement():
    url = os.environ["DATABASE_URL"]
    with psycopg.connect(url), Meter({}, database=url) as meter:
        pass
    assert meter.usage.connections >= 1


def test_memory_and_family_of_a_process(burner):
    burner.stdout.readline()
    assert 5 < peak_rss_mb(burner.pid) < 100
    assert parent_of(burner.pid) == os.getpid()
    assert tree([burner.pid]) == [burner.pid]
    assert burner.pid in tree([os.getpid()])


def test_a_process_that_has_ended_counts_as_nothing():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert (cpu_s([process.pid]), peak_rss_mb(process.pid), name_of(process.pid)) == (0, 0, "")
    with pytest.raises(ProcessLookupError):
        parent_of(process.pid)


def test_the_machine_is_at_least_as_busy_as_we_are():
    before, ours = busy_s(), time.process_time()
    while time.process_time() < ours + 0.2:
        pass
    assert busy_s() - before >= 0.15
