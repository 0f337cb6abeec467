"""`./run bench PART …`: measure, print a table for each part, and write the figures as JSON.

Runs in a database of its own beside the one that DATABASE_URL names, and in the Redis of REDIS_URL, which must be
empty.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
import time
from pathlib import Path

from tools.processes import CHANNELS
from tools.stack import environment
from tools.supervisor import Interrupted, StackError, Supervisor, interrupt_on_signals
from tools.workspace import LOCAL

PARTS = {
    "pipeline": "a campaign, from launch until every result and event is committed",
    "growth": "more recipients, more workers, a message table that is full already",
    "peers": "libraries that only send: the same tokens to the same provider, beside the plain campaign",
    "capacity": "what 10,000, 100,000 and 1,000,000 messages/s need, by the costs of the plain campaign",
    "limit": "what the machine could do: the provider's ceiling, COPY, and the sum of the parts",
    "latency": "one message from POST to the provider, while a campaign runs at full speed",
    "live": "streams of in-app messages: --connections open at once, and how soon a message is there",
    "api": "messages, receipts and registrations over the production server",
    "audience": "count and fan-out over many subscriptions",
    "analytics": "statistics of --messages messages: questions about 30 days, fill and rebuild",
    "console": "every page of the console beside --messages messages: milliseconds and queries",
    "exports": "files of many rows: rows a second, the worker's memory, the file's size",
    "imports": "files of many lines: checked and applied, lines a second, the worker's memory",
    "faults": "each fault of tests/faults against a campaign of 50,000; most of an hour, so only if it is named",
    "soak": "half load for --minutes, and whether anything grows; only if it is named",
}
"""Each is the module of its name, with `run(bench)`."""
LONG = ("faults", "soak")


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    listed = "\n".join(f"  {name:<9} {text}" for name, text in PARTS.items())
    parser = argparse.ArgumentParser(
        prog="./run bench",
        description=__doc__,
        epilog=f"parts:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help="what to measure; all but faults and soak unless told")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a list of {part, case, metric, value, …}")
    parser.add_argument(
        "--channel", choices=CHANNELS, default="push", metavar="NAME", help=f"of pipeline: {', '.join(CHANNELS)} (push)"
    )
    parser.add_argument("--provider", default="", metavar="NAME", help="of that channel, where it has several")
    parser.add_argument("--recipients", type=int, default=100_000, metavar="N", help="of a campaign (100,000)")
    parser.add_argument(
        "--subscriptions", type=int, default=1_000_000, metavar="N", help="of audience, growth, latency"
    )
    parser.add_argument(
        "--messages",
        type=int,
        default=300_000,
        metavar="N",
        help="of analytics and console (300,000); 20,000,000 take 25 minutes and about 1 GB for each million",
    )
    parser.add_argument("--workers", type=int, default=2, metavar="N", help="worker processes (2)")
    parser.add_argument("--runs", type=int, default=3, metavar="N", help="of each headline case (3)")
    parser.add_argument("--cases", default="", metavar="TEXT", help="only the cases whose name holds TEXT")
    parser.add_argument(
        "--big",
        nargs="?",
        type=int,
        const=20_000_000,
        default=0,
        metavar="ROWS",
        help="growth also on a message table of ROWS (20 million): minutes, and about 0.6 GB for each million",
    )
    parser.add_argument("--connections", type=int, default=5_000, metavar="N", help="open streams of live (5,000)")
    parser.add_argument("--minutes", type=float, default=30, metavar="M", help="of soak (30)")
    parser.add_argument(
        "--profile", action="store_true", help="limit, and pipeline of a channel, also write profiles to .local/bench/"
    )
    parser.add_argument(
        "--wait", type=float, default=60, metavar="S", help="for a machine at rest before each run (60)"
    )
    parser.add_argument("--database", default="automata_bench", help="made anew for each run (automata_bench)")
    parser.add_argument(
        "--not-durable", action="store_true", help="accept a server with fsync off; no goal is judged then"
    )
    options = parser.parse_args(arguments)
    if unknown := sorted(set(options.parts) - set(PARTS)):
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    if "bench" not in options.database:
        parser.error("--database is dropped and made anew: its name must hold the word bench")
    options.parts = options.parts or [part for part in PARTS if part not in LONG]
    return options


def main() -> int:
    options = parse()
    interrupt_on_signals()
    try:
        for name in ("DATABASE_URL", "REDIS_URL"):
            if not os.environ.get(name):
                raise StackError(f"{name} is not set: use ./run bench")
        with tempfile.TemporaryDirectory(prefix="automata-bench-") as folder:
            return measure(options, Path(folder))
    except StackError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except Interrupted as interrupt:
        return 128 + interrupt.signum


def measure(options: argparse.Namespace, folder: Path) -> int:
    """Run the parts. 0, also when a goal was missed: that is a result."""
    from bench import stage

    with stage.own_stores(options.database, durable=not options.not_durable) as stores:
        os.environ.update(stores.environment())
        logs = LOCAL / "logs" / f"bench-{options.database}"
        with Supervisor(logs, env=environment(stores.environment())) as supervisor:
            stage.migrate(supervisor)
            from bench.harness import Bench  # needs Django, which needs the database's address

            bench = Bench(options, stores, supervisor, folder)
            print(bench.machine.line(), flush=True)
            for name, value in bench.machine.as_figures().items():
                bench.report.add("machine", "machine", name, value)  # type: ignore[arg-type]
            for part in options.parts:
                began = time.monotonic()
                print(f"\n{part}: {PARTS[part]}", flush=True)
                try:
                    importlib.import_module(f"bench.{part}").run(bench)
                finally:  # what was measured before an end in the middle is not lost
                    print(f"\n{bench.report.tables(part)}\n  ({time.monotonic() - began:.0f} s)", flush=True)
                    if options.json:
                        bench.report.write(options.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())
