"""`python -m apps.sandbox apns|fcm|smtp|esp|solapi|twilio|nhn|devices|ca|behaviours`: stand-in providers for tests,
demo and benchmarks.

Runs only with AUTOMATA_SANDBOX=1, and never with AUTOMATA_ENV=production.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from apps.sandbox.authority import ensure_authority
from apps.sandbox.behaviours import APNS_TABLE, FCM_TABLE, Behaviour
from apps.sandbox.control import marker_of
from apps.sandbox.devices import Plan, add_arguments, simulate
from apps.sandbox.esp import ESP_TABLE, EspSettings
from apps.sandbox.gateway_behaviours import behaviour_rows
from apps.sandbox.gateway_server import GATEWAYS
from apps.sandbox.mail_behaviours import SMTP_TABLE
from apps.sandbox.provider import Settings
from apps.sandbox.provider_token import ENVIRONMENTS
from apps.sandbox.server import LOOPBACK, Options, serve
from apps.sandbox.smtp import MailSettings
from apps.sandbox.webhooks import GatewaySettings

_SETTINGS: dict[str, type[Settings]] = {
    "smtp": MailSettings,
    "esp": EspSettings,
    **dict.fromkeys(GATEWAYS, GatewaySettings),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; gives the exit code."""
    refused = why_refused(os.environ.get("AUTOMATA_ENV", ""), os.environ.get("AUTOMATA_SANDBOX", ""))
    if refused:
        print(f"sandbox: {refused}", file=sys.stderr)
        return 2
    options = _parser().parse_args(arguments)
    try:
        if options.command == "ca":
            print(ensure_authority(options.ca_dir, options.name).ca_file)
        elif options.command == "behaviours":
            print(behaviour_table())
        elif options.command == "devices":
            return simulate(Plan.from_arguments(options))
        else:
            asyncio.run(serve(_serve_options(options)))
    except (OSError, ValueError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def why_refused(environment: str, switch: str) -> str:
    """Why the sandbox may not run here; "" when it may."""
    if environment.strip().lower() == "production":
        return "refuses to run: AUTOMATA_ENV=production"
    if switch != "1":
        return "refuses to run: set AUTOMATA_SANDBOX=1 to start stand-in providers (tests, demo and benchmarks only)"
    return ""


def behaviour_table() -> str:
    """The tables of behaviours in Markdown, as README.md shows them."""
    lines: list[str] = []
    for provider, table in (("apns", APNS_TABLE), ("fcm", FCM_TABLE)):
        lines += ["", f"| {provider.upper()} token begins | behaviour | does |", "| --- | --- | --- |"]
        for row in table:
            answer = f"{row.status} {row.reason}" if row.reason else ""
            does = "; ".join(filter(None, (answer, row.meaning)))
            lines.append(f"| `{marker_of(provider, row.name, row.code)}` | `{row.name}` | {does} |")
    of_mail: tuple[tuple[str, tuple[Behaviour, ...]], ...] = (("smtp", SMTP_TABLE), ("esp", ESP_TABLE))
    for provider, rows in of_mail:
        lines += ["", f"| {provider.upper()} address | does |", "| --- | --- |"]
        for row in rows:
            code = f"{row.status} {row.reason} ".replace("  ", " ") if provider == "smtp" and row.status else ""
            lines.append(f"| `{marker_of(provider, row.name, row.code)}` | {code}{row.meaning} |")
    for provider in GATEWAYS:
        lines += ["", f"| {provider.upper()} recipient | behaviour | does |", "| --- | --- | --- |"]
        lines += behaviour_rows(provider)
    return "\n".join(lines[1:])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m apps.sandbox", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("apns", "fcm", "smtp", "esp", *GATEWAYS):
        command = commands.add_parser(name, help=f"run the {name.upper()} stand-in")
        _add_server_arguments(command)
        if name == "apns":
            command.add_argument("--environment", choices=ENVIRONMENTS, default="production", help="of --port")
            command.add_argument("--sandbox-port", type=int, help="a second port, for the development environment")
        elif name == "fcm":
            command.add_argument("--access-token-ttl-s", type=int, default=3599)
        elif name == "smtp":
            command.add_argument("--tls-port", type=int, default=0, help="TLS from the first byte")
            command.add_argument("--fast", action="store_true", help="count messages, and check and keep none")
    add_arguments(commands.add_parser("devices", help="run simulated devices that post receipts"))
    authority = commands.add_parser("ca", help="make the certificate authority")
    authority.add_argument("--ca-dir", type=Path, required=True)
    authority.add_argument("--name", action="append", default=[], help="another host name for the server certificate")
    commands.add_parser("behaviours", help="print the tables of behaviours")
    return parser


def _add_server_arguments(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default=LOOPBACK)
    command.add_argument("--port", type=int, default=0, help="0 takes a free one; see the ready line")
    command.add_argument("--control-port", type=int, default=0, help="plain HTTP, on loopback only")
    command.add_argument("--ca-dir", type=Path, required=True)
    command.add_argument("--name", action="append", default=[], help="another host name for the server certificate")
    command.add_argument("--latency-ms", type=float, default=0.0)
    command.add_argument("--jitter-ms", type=float, default=0.0)
    command.add_argument("--stream-limit", type=int, default=1000)
    command.add_argument("--goaway-every", type=int, default=0, help="GOAWAY after so many requests of a connection")
    command.add_argument("--journal-size", type=int, default=200_000)
    command.add_argument("--keys", type=Path, help="JSON list of keys or accounts, as POST /keys takes them")
    command.add_argument("--seed", type=int, default=0)
    command.add_argument("--exit-with-parent", action="store_true", help="end when standard input ends")


def _serve_options(options: argparse.Namespace) -> Options:
    settings = _SETTINGS.get(options.command, Settings)()
    settings.change(
        {
            "latency_ms": options.latency_ms,
            "jitter_ms": options.jitter_ms,
            "stream_limit": options.stream_limit,
            "goaway_every": options.goaway_every,
            "access_token_ttl_s": getattr(options, "access_token_ttl_s", 3599),
        }
    )
    return Options(
        provider=options.command,
        ca_dir=options.ca_dir,
        host=options.host,
        port=options.port,
        control_port=options.control_port,
        environment=getattr(options, "environment", "production"),
        sandbox_port=getattr(options, "sandbox_port", None),
        names=tuple(options.name),
        journal_size=options.journal_size,
        keys_file=options.keys,
        seed=options.seed,
        exit_with_parent=options.exit_with_parent,
        tls_port=getattr(options, "tls_port", 0),
        is_fast=getattr(options, "fast", False),
        settings=settings,
    )


if __name__ == "__main__":
    sys.exit(main())
