"""Where the time of a worker goes: `take` writes profiles to `.local/bench/` and gives the largest places.

`python -m bench.profile FILE` is the worker of a profile: it runs the waiting batches in this process, as a Celery
worker would, with both of its threads profiled by CPU time. cProfile makes small functions look dearer than they are:
read the order and the shares, not the microseconds. With py-spy installed, real workers are sampled as well.
"""

from __future__ import annotations

import cProfile
import json
import pstats
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools.supervisor import ROOT
from tools.workspace import LOCAL, private_dir

if TYPE_CHECKING:
    from apps.tenants.models import Application
    from bench.fleet import Fleet
    from bench.harness import Bench
    from bench.standin import StandIn

FOLDER = LOCAL / "bench"
PLACES = 14
WARM_UP_BATCHES = 4
SAMPLES_PER_S = 200


def take(
    bench: Bench, application: Application, name: str, *, providers: StandIn | None = None, **campaign: Any
) -> list[tuple[str, float]]:
    """Profile one campaign (`harness.make_campaign`); the places where the most CPU went, with µs a message."""
    from apps.campaigns.services import campaign_launch
    from bench.harness import make_campaign

    private_dir(FOLDER)
    with bench.fleet(providers=providers) as fleet:
        bench.send(fleet, [application], **campaign)
        _sample_workers(bench, fleet, application, name, **campaign)
    with bench.fleet(workers=0, providers=providers) as fleet:
        bench.clear_messages()
        made = make_campaign(application, **campaign)
        campaign_launch(campaign=made)
        _wait_for_fan_out(bench, made.pk)
        output = FOLDER / f"profile-{name}.txt"
        environment = {**bench.supervisor.env, **fleet.providers.environment()}
        command = [sys.executable, "-m", "bench.profile", str(output)]
        result = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    bench.say(f"profile: {output.relative_to(ROOT)}")
    return [(place, us) for place, us in json.loads(result.stdout)]


def _wait_for_fan_out(bench: Bench, campaign_id: Any) -> None:
    done = "SELECT fanout_done_at IS NOT NULL FROM campaigns_messagecampaign WHERE id = %s"
    bench.supervisor.wait_until(
        lambda: bool(bench.sql(done, [campaign_id])[0][0]), timeout_s=300, what="The fan-out of a campaign"
    )


def _sample_workers(bench: Bench, fleet: Fleet, application: Application, name: str, **campaign: Any) -> None:
    """What PostgreSQL spent on which statement, and samples of the real workers where py-spy is installed."""
    has_statements = bench.sql("SHOW shared_preload_libraries")[0][0].find("pg_stat_statements") >= 0
    if has_statements:
        bench.sql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements")
        bench.sql("SELECT pg_stat_statements_reset()")
    sampler = None
    if command := shutil.which("py-spy"):
        samples = FOLDER / f"samples-{name}.txt"
        options = ("--subprocesses", "--nonblocking", "--rate", str(SAMPLES_PER_S), "--format", "raw")
        target = ("--pid", str(fleet.bulk[0].process.pid), "--duration", "600", "--output", str(samples))
        sampler = subprocess.Popen([command, "record", *options, *target], stdout=subprocess.DEVNULL)
    try:
        run = bench.send(fleet, [application], **campaign)
    finally:
        if sampler is not None:
            sampler.send_signal(2)
            sampler.wait(timeout=60)
    bench.say(f"{name} while sampled: {run.rate:,.0f} messages/s")
    if has_statements:
        rows = bench.sql(_STATEMENTS)
        lines = [
            f"{ms / run.recipients * 1e3:8.2f} µs/msg {calls:8,} calls {rows_:10,} rows  {q}"
            for ms, calls, rows_, q in rows
        ]
        (FOLDER / f"statements-{name}.txt").write_text("\n".join(lines) + "\n")


_STATEMENTS = """
    SELECT total_exec_time, calls, rows, left(regexp_replace(query, '\\s+', ' ', 'g'), 200)
    FROM pg_stat_statements WHERE dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
    AND query !~ '^(TRUNCATE|CHECKPOINT|WITH changed|SELECT coalesce)'
    ORDER BY total_exec_time DESC LIMIT 20
"""


# --- The profiled worker -------------------------------------------------------------------------------------------


def main(output: Path) -> None:
    import django

    django.setup()
    from apps.messaging.dispatch import run_batch
    from apps.messaging.models import DispatchBatch
    from apps.messaging.recording import recorder_thread
    from apps.messaging.senders import close_senders

    waiting = list(DispatchBatch.objects.filter(state="waiting").order_by("id").values_list("pk", "recipient_count"))
    for batch_id, _ in waiting[:WARM_UP_BATCHES]:
        run_batch(batch_id)
    threads = {"sending": cProfile.Profile(time.thread_time), "recording": cProfile.Profile(time.thread_time)}
    recorder_thread().submit(threads["recording"].enable).result()
    began, cpu = time.monotonic(), time.process_time()
    threads["sending"].enable()
    for batch_id, _ in waiting[WARM_UP_BATCHES:]:
        run_batch(batch_id)
    threads["sending"].disable()
    seconds, used = time.monotonic() - began, time.process_time() - cpu
    recorder_thread().submit(threads["recording"].disable).result()
    close_senders()
    messages = sum(count for _, count in waiting[WARM_UP_BATCHES:])
    with output.open("w") as file:
        file.write(f"{messages:,} messages in {seconds:.2f} s, {used / messages * 1e6:.1f} µs of CPU each, profiled\n")
        for name, profile in threads.items():
            file.write(f"\n===== the {name} thread\n")
            stats = pstats.Stats(profile, stream=file)
            stats.sort_stats("tottime").print_stats(45)
            stats.sort_stats("cumulative").print_stats(45)
    shares: Counter[str] = Counter()
    for name, profile in threads.items():
        for (file_name, _, function), (_, _, own_s, *_) in pstats.Stats(profile).stats.items():  # type: ignore[attr-defined]
            shares[f"{name}: {place_of(file_name, function)}"] += own_s / messages * 1e6
    print(json.dumps(shares.most_common(PLACES)))


def place_of(file_name: str, function: str) -> str:
    """Which part of the program a function of a profile belongs to."""
    if file_name == "~":
        library = next(
            (name for name in ("_ssl", "psycopg", "orjson", "AESGCM") if name.lower() in function.lower()), ""
        )
        return f"{library} (C)" if library else f"built-in {function.strip('<>')}"
    path = Path(file_name)
    if path.is_relative_to(ROOT / "apps") or path.is_relative_to(ROOT / "automata_signal"):
        return str(path.relative_to(ROOT))
    parts = path.parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    return f"python: {path.stem}"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
