"""The modes of `./run`: demo, test, lint, messages, manage, bench.

`./run` prepares `.venv` and then executes `python -m tools.stack MODE ARGUMENTS` in it.
"""

from __future__ import annotations

import argparse
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path

from tools.processes import APPLICATION, PROVIDERS, Addresses, demo_processes
from tools.services import free_ports, leftovers, port_is_free, start_services
from tools.supervisor import POLL_S, ROOT, Interrupted, StackError, Supervisor, interrupt_on_signals
from tools.workspace import (
    LOCAL,
    Lease,
    abandoned_leases,
    new_secrets,
    private_dir,
    shared_use,
    stored_secrets,
    wait_for_users,
    write_private,
)

STARTED_AT = float(os.environ.pop("RUN_STARTED_AT", time.time()))
LOGS = LOCAL / "logs"
DEMO = LOCAL / "demo"
STATE = DEMO / "state.json"
READY_TIMEOUT_S = 60.0
RESTARTABLE_AFTER_S = 10.0
MANAGE = (sys.executable, "manage.py")


def say(message: str) -> None:
    print(f"[run +{time.time() - STARTED_AT:.1f}s] {message}", flush=True)


def environment(defaults: Mapping[str, str], overrides: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for children: the user's own, which wins over the defaults and gives way to the overrides."""
    always = {"DJANGO_SETTINGS_MODULE": "automata_signal.settings", "PYTHONUNBUFFERED": "1"}
    return {**always, **defaults, **os.environ, **(overrides or {})}


# --- demo --------------------------------------------------------------------------------------------------------


def demo(arguments: Sequence[str]) -> int:
    """PostgreSQL, Redis, stand-in providers, web, workers and beat; then the scenario."""
    parser = argparse.ArgumentParser(prog="./run demo", description=demo.__doc__)
    parser.add_argument("--exit", action="store_true", help="end after the scenario, with its exit code")
    parser.add_argument("--recipients", type=int, metavar="N", help="size of the scenario's campaign")
    parser.add_argument("--verbose", action="store_true", help="show the output of all processes")
    options = parser.parse_args(arguments)

    # Held until this process ends: two demos would share data, and the second would take the first one's ports.
    lease = Lease.acquire("demo", or_else="A demo is already running in this checkout (./run manage uses it too).")
    STATE.unlink(missing_ok=True)
    at = demo_addresses()
    try:
        with Supervisor(
            LOGS / "demo", env=demo_environment() | at.environment(), on_console=options.verbose
        ) as supervisor:
            supervisor.env.update(start_services(supervisor, "demo", durable=True))
            say("PostgreSQL and Redis answer")
            share_state(supervisor)
            start_demo_processes(supervisor, at)
            say(f"READY {at.web_url}/admin/ (logs in {LOGS.relative_to(ROOT) / 'demo'})")
            workers = ", ".join(str(port) for port in (at.high_metrics, at.bulk_metrics, at.control_metrics))
            say(f"metrics: {at.web_url}/metrics, and the workers' on ports {workers}")
            code = run_scenario(supervisor, recipients=options.recipients)
            if options.exit:
                return code
            if code:
                say(f"the scenario failed with exit code {code}; everything stays up for a look")
            say("Ctrl-C ends the demo")
            return keep_up(supervisor) or code
    finally:
        STATE.unlink(missing_ok=True)
        lease.release()


def demo_addresses() -> Addresses:
    text = os.environ.get("PORT", "8000")
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise StackError(f"PORT is {text!r}: a number from 1 to 65535 is needed")
    web = int(text)
    if not port_is_free(web):
        raise StackError(f"Port {web} is in use: end what uses it, or choose another, as in PORT={web + 1} ./run demo")
    ca_dir = private_dir(private_dir(DEMO) / "ca")
    shutil.rmtree(DEMO / "metrics", ignore_errors=True)  # what the last demo counted
    metrics_dir = private_dir(DEMO / "metrics")
    names = [field.name for field in fields(Addresses) if field.name not in ("web", "ca_dir", "metrics_dir")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    return Addresses(web=web, ca_dir=ca_dir, metrics_dir=metrics_dir, **ports)


def demo_environment() -> dict[str, str]:
    """With the demo's own secrets, so that its data stays readable; development has no other use for AUTOMATA_ENV."""
    return environment(stored_secrets(DEMO / "secrets.json"), {"AUTOMATA_ENV": "demo"})


def share_state(supervisor: Supervisor) -> None:
    """Tell `./run manage` what we added to the user's environment."""
    write_private(STATE, {name: value for name, value in supervisor.env.items() if os.environ.get(name) != value})


def start_demo_processes(supervisor: Supervisor, at: Addresses) -> None:
    """Migrate, start the table's processes, and wait until the providers and the web answer."""
    specs = demo_processes(at)
    for spec in specs:
        if spec.stage == PROVIDERS:
            supervisor.start(spec)
    if supervisor.run_foreground([*MANAGE, "migrate", "--verbosity", "0"]):
        raise StackError("the database could not be migrated (see above)")
    say("migrated")
    ports = (at.apns_development, *(port for pair in at.providers.values() for port in pair))
    supervisor.wait_until(lambda: all(map(accepts, ports)), timeout_s=READY_TIMEOUT_S, what="The stand-in providers")
    for spec in specs:
        if spec.stage == APPLICATION:
            supervisor.start(spec)
        if spec.name == "web":  # let it have the processor to itself: somebody is waiting for the page
            web_answers = partial(answers, f"{at.web_url}/healthz")
            supervisor.wait_until(web_answers, timeout_s=READY_TIMEOUT_S, what="The web")


def run_scenario(supervisor: Supervisor, *, recipients: int | None) -> int:
    """The demo's scenario; its exit code. It finds API_URL and SANDBOX_*_CONTROL_URL in its environment."""
    arguments = [] if recipients is None else ["--recipients", str(recipients)]
    command = [sys.executable, "-m", "tools.demo", *arguments]
    return supervisor.run_foreground(command, while_running=lambda: restart_ended(supervisor))


def keep_up(supervisor: Supervisor) -> int:
    """Keep everything running until Ctrl-C, which is this mode's normal end."""
    try:
        while True:
            restart_ended(supervisor)
            time.sleep(POLL_S)
    except Interrupted as interrupt:
        say("stopping")
        return 0 if interrupt.signum == signal.SIGINT else 128 + interrupt.signum


def restart_ended(supervisor: Supervisor) -> None:
    """Start an application process again that ended, unless it cannot stay up or the ground under it is gone."""
    for child in supervisor.ended():
        ran_s = time.monotonic() - child.started_at
        how = f"{child.spec.name} ended after {ran_s:.0f} s with code {child.process.returncode}"
        if child.spec.stage != APPLICATION or ran_s < RESTARTABLE_AFTER_S:
            raise StackError(f"{how} (see {child.log})")
        say(f"{how}: starting it again")
        supervisor.start(child.spec)


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def answers(url: str) -> bool:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


# --- manage ------------------------------------------------------------------------------------------------------


def manage(arguments: Sequence[str]) -> int:
    """manage.py on the demo's data: through the running demo's services, else through services of its own."""
    if os.environ.get("DATABASE_URL"):  # a database of the user's choice, whatever the demo uses
        with Supervisor(LOGS / "manage", env=demo_environment()) as supervisor:
            supervisor.env.update(start_services(supervisor, "manage", durable=False))
            return supervisor.run_foreground([*MANAGE, *arguments], interactive=True)
    while True:
        lease = Lease.try_acquire("demo")
        if lease is not None:
            return manage_alone(arguments, lease)
        with shared_use("demo"):
            if STATE.exists():
                running: dict[str, str] = json.loads(STATE.read_text())
                with Supervisor(LOGS / "manage", env=environment({}, running)) as supervisor:
                    return supervisor.run_foreground([*MANAGE, *arguments], interactive=True)
        time.sleep(POLL_S)  # it is starting, or has just ended


def manage_alone(arguments: Sequence[str], lease: Lease) -> int:
    """As `manage`, holding the demo's lease. Another `./run manage` meanwhile uses our services: wait for it."""
    STATE.unlink(missing_ok=True)
    try:
        with Supervisor(LOGS / "demo", env=demo_environment()) as supervisor:
            supervisor.env.update(start_services(supervisor, "demo", durable=True))
            share_state(supervisor)
            code = supervisor.run_foreground([*MANAGE, *arguments], interactive=True)
            with wait_for_users("demo"):
                STATE.unlink(missing_ok=True)
            return code
    finally:
        STATE.unlink(missing_ok=True)
        lease.release()


# --- test and lint -----------------------------------------------------------------------------------------------


ALL_TESTS = ("-n", "auto")
TEST_WORKERS_MAX = 8


def test(arguments: Sequence[str]) -> int:
    """pytest on throw-away services, or on the servers that DATABASE_URL and REDIS_URL name.

    Without arguments, or with `-n`, several processes share the tests (`tests/workers.py`), on services of their own.
    A selection runs in one, which starts sooner, and so does everything on servers that were given.
    """
    is_given = bool(os.environ.get("DATABASE_URL") or os.environ.get("REDIS_URL"))
    workers = 0 if is_given and not arguments else workers_asked(arguments or ALL_TESTS)
    if is_given and workers:
        raise StackError("-n starts services for each process: it cannot use DATABASE_URL and REDIS_URL")
    with throw_away_stack("test") as supervisor:
        name = supervisor.logs.name
        servers = [start_services(supervisor, name, durable=False)]
        if workers:
            servers += [start_services(supervisor, f"{name}-{n}", durable=False) for n in range(1, workers)]
            arguments = [*arguments, "-n", str(workers)]
            supervisor.env["TEST_SERVERS"] = json.dumps(servers)
        supervisor.env.update(servers[0])
        return supervisor.run_foreground([sys.executable, "-m", "pytest", *arguments], interactive=True)


def workers_asked(arguments: Sequence[str]) -> int:
    """How many processes pytest's arguments ask for, 0 when it is to run the tests itself.

    `auto` is one more than there are processors: many tests wait for others.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-n", "--numprocesses", default="0")
    asked = parser.parse_known_args(arguments)[0].numprocesses
    if asked == "auto":
        return min(os.cpu_count() or 1, TEST_WORKERS_MAX - 1) + 1
    return int(asked) if asked.isdecimal() else 0


def lint(arguments: Sequence[str]) -> int:
    """Every check, also after one has failed; 1 if any has."""
    if arguments:
        raise StackError("./run lint takes no arguments")
    checks: dict[str, list[str]] = {
        "ruff check": [sys.executable, "-m", "ruff", "check", ".", "run"],
        "ruff format": [sys.executable, "-m", "ruff", "format", "--check", ".", "run"],
        "mypy": [sys.executable, "-m", "mypy"],
        "import rules": [str(Path(sys.executable).with_name("lint-imports"))],
        "migrations": [*MANAGE, "makemigrations", "--check", "--dry-run"],
    }
    results: dict[str, bool] = {}
    with throw_away_stack("lint") as supervisor:
        # makemigrations also compares with the history in the database.
        supervisor.env.update(start_services(supervisor, supervisor.logs.name, durable=False, with_redis=False))
        for name, command in checks.items():
            say(name)
            results[name] = supervisor.run_foreground(command) == 0
    for name, passed in results.items():
        print(f"{'pass' if passed else 'FAIL'}  {name}")
    return 0 if all(results.values()) else 1


def messages(arguments: Sequence[str]) -> int:
    """The catalogue of Korean words, which needs no services."""
    env = environment(new_secrets(), {"AUTOMATA_ENV": "test"})
    return subprocess.run([sys.executable, "-m", "tools.catalogue", *arguments], cwd=ROOT, env=env).returncode


@contextmanager
def throw_away_stack(purpose: str) -> Iterator[Supervisor]:
    """A supervisor for one run that leaves nothing; its logs folder has the run's own name."""
    for abandoned in abandoned_leases(f"{purpose}-"):
        for folder in (*leftovers(abandoned), LOGS / abandoned):
            shutil.rmtree(folder, ignore_errors=True)
    name = f"{purpose}-{os.getpid()}-{secrets.token_hex(2)}"
    lease = Lease.acquire(name, or_else=f"{name} is taken")
    try:
        with Supervisor(LOGS / name, env=environment(new_secrets(), {"AUTOMATA_ENV": "test"})) as supervisor:
            supervisor.remove_at_end(LOGS / name)
            yield supervisor
    finally:
        lease.remove()


# --- bench -------------------------------------------------------------------------------------------------------


def bench(arguments: Sequence[str]) -> int:
    """The benchmarks on durable services of their own: what is measured writes to the disk as production does."""
    if not (ROOT / "bench" / "__main__.py").exists():
        print("run: there are no benchmarks yet (bench/__main__.py)", file=sys.stderr)
        return 2
    lease = Lease.acquire("bench", or_else="A benchmark is already running in this checkout.")
    try:
        env = environment(
            stored_secrets(LOCAL / "bench" / "secrets.json"), {"AUTOMATA_ENV": "demo", "AUTOMATA_SANDBOX": "1"}
        )
        with Supervisor(LOGS / "bench", env=env) as supervisor:
            supervisor.env.update(start_services(supervisor, "bench", durable=True))
            return supervisor.run_foreground([sys.executable, "-m", "bench", *arguments], interactive=True)
    finally:
        lease.release()


MODES: dict[str, Callable[[Sequence[str]], int]] = {
    "demo": demo,
    "test": test,
    "lint": lint,
    "messages": messages,
    "manage": manage,
    "bench": bench,
}


def main(mode: str, *arguments: str) -> int:
    interrupt_on_signals()
    try:
        return MODES[mode](arguments)
    except StackError as error:
        print(f"run: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupt:
        return 128 + interrupt.signum


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
