"""The house's own rules: what imports what, what may be called what, how long a file may grow."""

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from dues.slices import SLICES, Part

PROJECT = Path(__file__).resolve().parent.parent
PACKAGES = ("api", "dues", "local", "workers")
LONGEST_FILE = 400
LONGEST_FUNCTION = 50
NO_HOME = {"utils", "util", "common", "helpers", "helper", "extensions", "misc"}


def files() -> list[Path]:
    """Every module of the project, as seen from its folder."""
    found = [*PROJECT.glob("*.py"), *(file for package in PACKAGES for file in (PROJECT / package).rglob("*.py"))]
    return sorted(file.relative_to(PROJECT) for file in found)


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse((PROJECT / file).read_text())


@cache
def by_kind() -> dict[type[ast.AST], list[tuple[Path, ast.AST]]]:
    """Every node of every module. `ast.walk()` would take twice as long over them."""
    found: dict[type[ast.AST], list[tuple[Path, ast.AST]]] = {}
    for file in files():
        waiting: list[ast.AST] = [tree(file)]
        while waiting:
            node = waiting.pop()
            found.setdefault(type(node), []).append((file, node))
            for value in vars(node).values():
                if isinstance(value, list):
                    waiting += [each for each in value if isinstance(each, ast.AST)]
                elif isinstance(value, ast.AST):
                    waiting.append(value)
    return found


def nodes(*kinds: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    """Every node of exactly these kinds in every module."""
    for kind in kinds:
        yield from by_kind().get(kind, ())


def test_imports_go_down_only() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run(
        [lint_imports, "--no-cache", "--no-logo"], check=False, cwd=PROJECT, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_file_opens_with_what_it_is_for() -> None:
    silent = [file for file, module in nodes(ast.Module) if not ast.get_docstring(module)]  # type: ignore[arg-type]
    assert not silent, "say in a sentence at the top what the file is for"


def test_a_module_is_named_for_its_concept() -> None:
    homeless = [file for file in files() if NO_HOME & {part.removesuffix(".py") for part in file.parts}]
    assert not homeless, "each object lives with its concept: move what is in there to where that is"


def test_files_and_functions_stay_short() -> None:
    tests = [file.relative_to(PROJECT) for file in (PROJECT / "tests").rglob("*.py")]
    long = [file for file in files() + tests if len((PROJECT / file).read_text().splitlines()) >= LONGEST_FILE]
    assert not long, f"split a file of {LONGEST_FILE} lines by idea"
    functions = [
        f"{file}:{node.name}"
        for file, node in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert not functions, f"split a function of more than {LONGEST_FUNCTION} lines by what it does"


def test_no_import_hides_in_a_function() -> None:
    indented = [
        (file, node.lineno)
        for file, node in nodes(ast.Import, ast.ImportFrom)
        if isinstance(node, ast.Import | ast.ImportFrom) and node.col_offset
    ]
    hidden = [
        f"{file}:{line}"
        for file, line in indented
        for where, function in nodes(ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
        if where == file and function.lineno <= line <= (function.end_lineno or 0)
    ]
    assert not hidden, "import at the top; where that makes a cycle, a piece is in the wrong place"


def test_only_the_api_sees_the_request() -> None:
    seen = [
        f"{file}:{node.lineno}"
        for file, node in nodes(ast.ImportFrom)
        if isinstance(node, ast.ImportFrom) and node.module == "flask" and file.parts[0] != "api"
        if {"request", "session", "g"} & {alias.name for alias in node.names}
    ]
    assert not seen, "read the request in api/ and pass on what is needed of it"


def test_routes_know_no_server() -> None:
    known = [
        f"{file}:{node.lineno}"
        for file, node in nodes(ast.ImportFrom)
        if isinstance(node, ast.ImportFrom) and file.parts[:2] == ("api", "routes")
        if (node.module or "").startswith(("flask", "werkzeug", "api.server", "api.flask_host"))
    ]
    assert not known, "what was sent is in call.request, what a server is to do in the Reply: both hosts call routes"


def test_only_a_transaction_commits() -> None:
    commits = [
        f"{file}:{node.lineno}"
        for file, node in nodes(ast.Call)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "commit"
        if file != Path("dues/postgres/unit_of_work.py")
        and ast.unparse(node.func.value).endswith(("session", "connection", "session()"))
    ]
    assert not commits, "open dues.postgres.transaction() at the edge instead"


# What asks for the real time, in Python and in SQL. `store_now()` asks for a store's.
REAL_TIME = re.compile(
    r"\b(?<!store_)(?:now|utcnow|today|clock_timestamp|statement_timestamp|transaction_timestamp|timeofday)\(|"
    r"\b(?:current_timestamp|current_date|current_time|localtimestamp|localtime)\b|\btime\.(?:time|time_ns)\(",
    re.IGNORECASE,
)
# What members pay for happens in their store's time, which is not the real one in a test store.
IN_STORE_TIME = ("dues/subscriptions", "dues/billing", "dues/payments/state.py")


def test_billing_asks_for_its_stores_time() -> None:
    asked = [
        f"{file}:{number}"
        for file in files()
        if str(file).startswith(IN_STORE_TIME)
        for number, line in enumerate((PROJECT / file).read_text().splitlines(), 1)
        if REAL_TIME.search(line)
    ]
    assert not asked, "ask dues/clock.py for store_now(), and give it to SQL as a value"


@pytest.mark.parametrize("line", ["x = now()", "datetime.now(UTC)", "set at = NOW()", "current_date", "time.time()"])
def test_the_real_time_is_recognised(line: str) -> None:
    assert REAL_TIME.search(line)
    assert not REAL_TIME.search("moment = store_now(store_id)")


# Where the process's clock is compared with something, and why PostgreSQL's need not decide there.
OWN_CLOCK = {
    "dues/jobs/commands.py": "how long ago something was is shown to an operator",
    "dues/social/posts.py": "what somebody has typed is to lie ahead",
}


def test_stored_times_are_compared_by_postgresqls_clock() -> None:
    """The clocks of machines differ: one that is fast would delete what is young and begin what is to come."""
    compared = {
        str(file)
        for file, node in nodes(ast.Compare)
        if file.parts[0] in ("dues", "workers")
        if any(
            isinstance(part, ast.Call) and ast.unparse(part.func).split(".")[-1] in ("now", "utcnow")
            for part in ast.walk(node)
        )
        and "func.now" not in ast.unparse(node)
    }
    assert compared == OWN_CLOCK.keys(), "compare in SQL with now(), or with dues.postgres.database_now()"


def floors() -> list[str]:
    """Those of dues/, from the top down."""
    contracts = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    return next(contract["layers"] for contract in contracts if contract.get("containers") == ["dues"])


# What registers a function: where a module does that in dues/, every process has to import it.
REGISTERS = re.compile(r"^@(?:when_\w+|\w*before_commit|notice)\b", re.M)
DECLARES: dict[Part, tuple[str, re.Pattern[str]]] = {
    "hooks": ("dues", REGISTERS),
    "commands": ("dues", re.compile(r"^\w+ = Group\(|^@click\.command\b", re.M)),
    "routes": ("api/routes", re.compile(r"^routes = Routes\(", re.M)),
    "jobs": ("workers", re.compile(r"^@job\(", re.M)),
}


@pytest.mark.parametrize("part", DECLARES)
def test_what_declares_something_is_in_the_list_of_slices(part: Part) -> None:
    folder, pattern = DECLARES[part]
    found = {
        ".".join(file.relative_to(folder).with_suffix("").parts)
        for file in files()
        if file.is_relative_to(folder) and pattern.search((PROJECT / file).read_text())
    }
    named = [name for each in SLICES for name in getattr(each, part)]
    # The cache's is imported by whoever makes an application, since nothing works without it.
    assert sorted(named) == sorted(found - {"reads.freshness.__init__"}), "name it once in dues/slices.py"


def test_every_slice_is_in_the_list() -> None:
    first, last = floors().index("webhooks"), floors().index("mail")
    rooms = {room for floor in floors()[first : last + 1] for room in re.findall(r"\w+", floor)}
    assert not rooms - {each.name for each in SLICES}, "name it in dues/slices.py"


def test_the_picture_of_the_house_has_every_floor() -> None:
    rooms = {room for floor in floors() for room in re.findall(r"\w+", floor)}
    picture = (PROJECT / "README.md").read_text().partition("## The house")[2].partition("Imports go down")[0]
    shown = set(re.findall(r"\w+", picture.partition("dues/")[2]))
    # The application itself, and what every other module of the core stands on.
    assert rooms - shown <= {"app", "settings", "context", "failpoints", "chosen_ids", "retention", "slices"}


TEXTS = (".md", ".py", ".toml", ".typ")
# Files of ours as comments and guides name them.
NAMED = re.compile(r"(?<![\w/.-])(?:api|bench|dues|local|migrations|sdk|tests|workers)/[\w./-]*\w\.(?:lua|md|py|typ)\b")
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


@cache
def texts() -> list[tuple[Path, str]]:
    """Whatever is written for people to read, in the repository: code, guides, records of decisions."""
    listed = subprocess.run(["git", "ls-files", "-z"], check=True, cwd=PROJECT, capture_output=True, text=True).stdout
    return [
        (Path(name), (PROJECT / name).read_text())
        for name in listed.split("\0")
        if name.endswith(TEXTS) and (PROJECT / name).exists()
    ]


def test_what_is_named_is_there() -> None:
    named = {(file, name) for file, text in texts() for name in NAMED.findall(text)}
    gone = {f"{file}: {name}" for file, name in named if not (PROJECT / name).exists()}
    gone |= {
        f"{file}: {link}"
        for file, text in texts()
        if file.suffix == ".md"
        for link in LINK.findall(text)
        if not (PROJECT / file.parent / link).exists()
    }
    assert not gone, "name the files that are there now"


# Words of an earlier house, and what is said instead (docs/glossary.md).
OLD_WORDS = {
    r"front door": "the server, or the event loop",
    r"api/front": "api/server",
    r"\basgi:app": "server:app",
    r"(?<!at )the door\b": "the server, admission, or the engine",
    r"\b(?:he|him|his|himself)\b": "they, it, or the noun",
    r"\b(?:for|by) who (?!in\b)": "the noun: a caller, a client, a worker",
    r"what is over is forgotten": "expired rows are deleted",
}


def test_times_in_bodies_are_of_the_one_type() -> None:
    """Moment, which is in UTC: 9999-12-31T23:59:59-14:00 is no time that can be stored."""
    found = [str(file) for file, text in texts() if file.suffix == ".py" and re.search(r"\btz=True", text)]
    assert found == ["dues/clock.py"]


def test_texts_say_it_in_the_words_of_the_field() -> None:
    found = [
        f"{file}: {match[0]!r}: say {instead}"
        for file, text in texts()
        if file not in (Path("CHANGELOG.md"), Path("tests/test_house.py"))
        for word, instead in OLD_WORDS.items()
        # Without regard to case a search takes several times as long.
        for match in re.finditer(word, text.lower())
    ]
    assert not found, found
