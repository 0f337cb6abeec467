"""`/metrics` of the web, and of each worker on a port of its own: who may read it, and what it says.

The web's page has what its processes counted (`metrics`) and what is looked up (`figures`); a worker's has what its
processes counted. Both are closed unless the caller sends `METRICS_TOKEN` or comes from one of `METRICS_NETWORKS`.
"""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import threading
import time
from collections.abc import Callable
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.http import HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from automata_signal import metrics
from automata_signal.figures import Figures

log = logging.getLogger(__name__)

PATH = "/metrics"
POOL_LOOK_S = 1.0
_UNMATCHED = "unmatched"


# --- Who may read ------------------------------------------------------------------------------------------------


def may_read(authorization: str, address: str) -> bool:
    """By the header `Authorization: Bearer <METRICS_TOKEN>`, or by the address of the caller."""
    token = settings.METRICS_TOKEN
    if token and hmac.compare_digest(authorization.encode(), f"Bearer {token}".encode()):
        return True
    try:
        caller = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(caller, ipaddress.IPv6Address) and caller.ipv4_mapped:
        caller = caller.ipv4_mapped
    return any(caller in ipaddress.ip_network(network) for network in settings.METRICS_NETWORKS)


# --- What it says ------------------------------------------------------------------------------------------------


def page(*, with_figures: bool) -> bytes:
    """The text that Prometheus reads: of all processes of this service."""
    registry = CollectorRegistry()
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        _forget_dead(Path(folder))
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    else:
        registry.register(REGISTRY)
    if with_figures:
        registry.register(_figures())
    return generate_latest(registry)


@cache
def _figures() -> Figures:
    return Figures()


def _forget_dead(folder: Path) -> None:
    """What a process is doing ends with it; what it counted stays."""
    pids = {int(path.stem.rpartition("_")[2]) for path in folder.glob("gauge_live*.db")}
    for pid in pids:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
        except PermissionError:
            continue


# --- The web -----------------------------------------------------------------------------------------------------


class MetricsMiddleware:
    """Counts and times each request, and answers `/metrics` before host checks, sessions and log-in."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self._look_at_pool_at = 0.0

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path == PATH:
            return metrics_page(request)
        began = time.perf_counter()
        metrics.REQUESTS_IN_PROGRESS.inc()
        status = 500
        try:
            response = self.get_response(request)
            status = response.status_code
        finally:
            metrics.REQUESTS_IN_PROGRESS.dec()
            match = request.resolver_match
            route = match.route if match is not None else _UNMATCHED
            metrics.request_answered(request.method or "", route, status, time.perf_counter() - began)
            self._look_at_pool()
        return response

    def _look_at_pool(self) -> None:
        if (now := time.monotonic()) < self._look_at_pool_at:
            return
        self._look_at_pool_at = now + POOL_LOOK_S
        pool: Any = getattr(connections["default"], "pool", None)
        if pool is not None:
            stats = pool.get_stats()
            metrics.pool_seen(
                open_=stats["pool_size"],
                idle=stats["pool_available"],
                most=stats["pool_max"],
                waiting=stats.get("requests_waiting", 0),
            )


def metrics_page(request: HttpRequest) -> HttpResponse:
    """404 rather than a refusal that says what is here."""
    from apps.tenants.access import client_address  # not before Django is set up

    if not may_read(request.headers.get("Authorization", ""), client_address(request)):
        return HttpResponse(status=404)
    return HttpResponse(page(with_figures=True), content_type=CONTENT_TYPE_LATEST)


# --- Workers -----------------------------------------------------------------------------------------------------


class _Handler(BaseHTTPRequestHandler):
    timeout = 5

    def do_GET(self) -> None:
        if self.path != PATH or not may_read(self.headers.get("Authorization", ""), str(self.client_address[0])):
            self.send_error(404)
            return
        text = page(with_figures=False)
        self.send_response(200)
        self.send_header("Content-Type", CONTENT_TYPE_LATEST)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """A scrape is no event."""


def serve(address: str) -> ThreadingHTTPServer:
    """Answer on `address` (host:port) from a thread of this process, for as long as it lives.

    Raises `ImproperlyConfigured` if the processes of the pool have nowhere to add up what they count.
    """
    if not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        raise ImproperlyConfigured("METRICS_ADDRESS needs PROMETHEUS_MULTIPROC_DIR, where a worker's processes count")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ImproperlyConfigured(f"METRICS_ADDRESS is {address!r}: host:port is needed")
    server = _server_class(host)((host.strip("[]"), int(port)), _Handler)
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    log.info("metrics are served at %s", address)
    return server


def _server_class(host: str) -> type[ThreadingHTTPServer]:
    import socket

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return type("MetricsServer", (ThreadingHTTPServer,), {"address_family": family, "daemon_threads": True})
