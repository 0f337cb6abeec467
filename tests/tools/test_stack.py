"""`./run` from the outside: what it says when something is in the way, and what it leaves."""

from __future__ import annotations

import shutil
import signal
import socket
from pathlib import Path

import pytest

from tests.tools.conftest import Checkout, eventually, is_running
from tools.services import free_ports
from tools.stack import TEST_WORKERS_MAX, demo_addresses, workers_asked
from tools.supervisor import ROOT, StackError

# A benchmark that tells where its services are and who they are, and then runs until it is ended.
BENCH = """
import os, sys, time
import psycopg, redis
with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
    [folder] = connection.execute("SHOW data_directory").fetchone()
    connection.execute("CREATE TABLE IF NOT EXISTS started (at timestamptz DEFAULT now())")
    connection.execute("INSERT INTO started DEFAULT VALUES")
    [runs] = connection.execute("SELECT count(*) FROM started").fetchone()
    [fsync] = connection.execute("SHOW fsync").fetchone()
postgres = open(os.path.join(folder, "postmaster.pid")).readline().strip()
server = redis.Redis.from_url(os.environ["REDIS_URL"]).info("server")["process_id"]
print("pids", os.getpid(), postgres, server, flush=True)
print("runs", runs, "fsync", fsync, flush=True)
if "stay" in sys.argv:
    time.sleep(600)
"""

# Two tests that wait for each other in two processes, and one that fails.
TWO = """
import os, pathlib, time
import pytest

@pytest.mark.parametrize("number", [1, 2])
def test_it_is_not_alone(number):
    used = pathlib.Path(f"used-{number}")
    used.write_text(os.environ["DATABASE_URL"] + " " + os.environ["REDIS_URL"])
    other = pathlib.Path(f"used-{3 - number}")
    until = time.monotonic() + 30
    while not other.exists():
        assert time.monotonic() < until
        time.sleep(0.05)

def test_that_fails():
    assert False
"""


def test_a_port_in_use_is_one_line(checkout: Checkout) -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        code, output = checkout.run("-m", "tools.stack", "demo", PORT=str(port))
    assert code == 1
    assert output.startswith(f"run: Port {port} is in use")
    assert output.count("\n") == 1


@pytest.mark.parametrize("port", ["eighty", "0", "70000", "-1", ""])
def test_a_port_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    monkeypatch.setenv("PORT", port)
    with pytest.raises(StackError, match="PORT is "):
        demo_addresses()


def test_a_database_that_does_not_answer_is_one_line(checkout: Checkout) -> None:
    [port] = free_ports(1)
    code, output = checkout.run("-m", "tools.stack", "test", DATABASE_URL=f"postgresql://u:hunter2@127.0.0.1:{port}/d")
    assert (code, output) == (1, f"run: DATABASE_URL: no answer from 127.0.0.1:{port}: Connection refused\n")


def test_without_benchmarks_the_bench_mode_says_so(checkout: Checkout) -> None:
    code, output = checkout.run("-m", "tools.stack", "bench")
    assert (code, output.count("\n")) == (2, 1)


def test_help_names_every_mode(checkout: Checkout) -> None:
    code, output = checkout.run("run", "--help")
    assert code == 0
    assert all(f"./run {mode}" in output for mode in ("demo", "test", "lint", "manage", "bench"))
    assert checkout.run("run") == (2, output)


def test_an_unknown_mode_is_one_line(checkout: Checkout) -> None:
    code, output = checkout.run("run", "dance")
    assert (code, output.count("\n")) == (2, 1)


def test_killing_the_runner_ends_its_services_and_keeps_their_data(checkout: Checkout) -> None:
    checkout.write("bench/__main__.py", BENCH)
    runner = checkout.start("-m", "tools.stack", "bench", "stay")
    assert runner.stdout is not None
    pids = [int(pid) for pid in runner.stdout.readline().split()[1:]]
    assert len(pids) == 3
    assert runner.stdout.readline() == "runs 1 fsync on\n"

    code, output = checkout.run("-m", "tools.stack", "bench")
    assert (code, output) == (1, "run: A benchmark is already running in this checkout.\n")

    runner.send_signal(signal.SIGKILL)
    runner.wait()
    code, output = checkout.run("-m", "tools.stack", "bench")  # at once, while the old server may still be stopping
    assert code == 0
    assert "runs 2 fsync on\n" in output
    assert eventually(lambda: not any(map(is_running, pids)))


def test_the_data_of_a_test_run_is_removed(checkout: Checkout) -> None:
    checkout.write("test_nothing.py", "import os\n\ndef test_nothing():\n    print(os.environ['DATABASE_URL'])\n")
    code, output = checkout.run("-m", "tools.stack", "test", "-q", "-s", "-p", "no:django", "-p", "no:valkey")
    assert code == 0, output
    sockets = Path(output.partition("?host=")[2].splitlines()[0])
    assert sockets.is_absolute()
    assert not sockets.exists()
    assert not list((checkout.root / ".local").glob("pg*"))
    assert not list((checkout.root / ".local" / "leases").glob("test-*"))


@pytest.mark.parametrize(
    ("arguments", "workers"),
    [((), 0), (("-x", "tests/docs"), 0), (("-n", "3"), 3), (("-xn2", "-q"), 0), (("-q", "-n2"), 2), (("-n0",), 0)],
)
def test_a_selection_runs_in_one_process_unless_more_are_asked_for(arguments: tuple[str, ...], workers: int) -> None:
    assert workers_asked(arguments) == workers


def test_as_many_processes_as_the_machine_can_use() -> None:
    assert 2 <= workers_asked(["--numprocesses=auto"]) <= TEST_WORKERS_MAX


def test_each_process_of_a_test_run_has_its_own_servers_and_none_is_left(checkout: Checkout) -> None:
    shutil.copy(ROOT / "tests" / "workers.py", checkout.root / "conftest.py")
    checkout.write("test_two.py", TWO)
    options = ("-n", "2", "-p", "no:django", "-p", "no:valkey", "-p", "no:cacheprovider")
    code, output = checkout.run("-m", "tools.stack", "test", *options)
    assert code == 1, output
    assert "= 1 failed, 2 passed in " in output.splitlines()[-1]
    databases, queues = zip(*(path.read_text().split() for path in checkout.root.glob("used-*")), strict=True)
    assert len(set(databases)) == len(set(queues)) == 2
    assert not list((checkout.root / ".local").glob("pg*"))
    assert not any(Path(url.partition("?host=")[2]).exists() for url in databases)
    assert not list((checkout.root / ".local" / "leases").glob("test-*"))


def test_servers_that_were_given_serve_one_process_only(checkout: Checkout) -> None:
    code, output = checkout.run("-m", "tools.stack", "test", "-n", "2", REDIS_URL="redis://127.0.0.1:1/0")
    assert (code, output.count("\n")) == (1, 1)
    assert output.startswith("run: -n starts services for each process")
