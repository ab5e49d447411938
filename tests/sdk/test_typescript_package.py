"""The TypeScript client as a package: built and packed, installed into an empty project, type-checked as a user would,
its own tests, and its example against a running Dues."""

import os
import shutil
from pathlib import Path

import pytest

from tests.sdk.conftest import Town
from tests.sdk.test_python_package import run
from tests.servers import Servers
from tests.webserver import WebServer

SDK = Path(__file__).resolve().parents[2] / "sdk" / "typescript"
MOST_LINES = 2000

pytestmark = [
    pytest.mark.sdk,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not shutil.which("npm"), reason="there is no npm here"),
]

# What a user may write.
USER = """
import { CardDeclined, Dues, type Payment, webhooks } from "dues-client";

export async function pay(dues: Dues, storeId: string, packageId: string): Promise<Payment | undefined> {
  try {
    const started = await dues.payments.create(storeId, { package_id: packageId, payment_method: "x" }, { wait: 5 });
    return await started.wait({ onProgress: (job) => console.log(job.progress?.percent) });
  } catch (error) {
    if (error instanceof CardDeclined) return undefined;
    throw error;
  }
}

export async function amounts(dues: Dues, storeId: string): Promise<number[]> {
  const found: number[] = [];
  for await (const payment of dues.payments.list(storeId, { query: { status: "failed" } })) found.push(payment.amount);
  return found;
}

export async function preview(dues: Dues, storeId: string, id: string, packageId: string): Promise<void> {
  await dues.subscriptions.change(storeId, id, { package_id: packageId }, { query: { preview: true } });
  await dues.imports.create(storeId, new Uint8Array(), { query: { kind: "customers" }, contentType: "text/csv" });
}

export async function hook(body: string, headers: Headers): Promise<number | undefined> {
  const event = await webhooks.verify(body, headers, "whsec_");
  return event.type === "payment.succeeded" ? event.data.amount : undefined;
}
"""
WRONG = 'import { Dues } from "dues-client";\nnew Dues().payments.list("s", { query: { status: "succeded" } });\n'
TSCONFIG = """{"compilerOptions": {"target": "ES2022", "lib": ["ES2022", "DOM", "DOM.Iterable"], "module": "NodeNext",
  "strict": true, "exactOptionalPropertyTypes": true, "noEmit": true, "skipLibCheck": false, "types": []},
  "files": ["user.ts"]}"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the package, built, with its tarball beside it."""
    folder = tmp_path_factory.mktemp("npm") / "typescript"
    shutil.copytree(SDK, folder, ignore=shutil.ignore_patterns("node_modules", "dist", "*.tgz"))
    run("npm", "ci", "--no-fund", "--no-audit", cwd=folder)
    run("npm", "pack", "--pack-destination", folder.parent, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def project(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has the package, and nothing else."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "package.json").write_text('{"type": "module", "private": true}')
    (tarball,) = built.parent.glob("*.tgz")
    run("npm", "install", "--no-fund", "--no-audit", tarball, cwd=folder)
    assert [path.name for path in (folder / "node_modules").iterdir() if path.name[0] != "."] == ["dues-client"]
    return folder


def test_its_types_hold_in_a_strict_project(built: Path, project: Path) -> None:
    (project / "tsconfig.json").write_text(TSCONFIG)
    (project / "user.ts").write_text(USER)
    tsc = built / "node_modules/.bin/tsc"
    run(tsc, "-p", project)
    (project / "user.ts").write_text(WRONG)
    with pytest.raises(AssertionError, match="succeded"):
        run(tsc, "-p", project)


def test_its_own_tests(built: Path) -> None:
    run("npm", "test", cwd=built)


def test_its_example_in_twenty_lines(project: Path, town: Town) -> None:
    example = SDK / "examples/pay.mjs"
    assert len([line for line in example.read_text().splitlines() if line.strip()]) <= 20
    town.make.payments(town.store, 120, users=[town.customer], packages=[town.package])
    total = town.make.value(
        "select sum(amount) from payments where store_id = %(store)s and status = 'succeeded'", {"store": town.store.id}
    )
    (project / "pay.mjs").write_text(example.read_text())
    said = run(
        "node", "pay.mjs", town.store_id, town.customer.email, town.password,
        cwd=project, env=os.environ | {"DUES_URL": town.url},
    )  # fmt: skip
    assert f'succeeded; before that {{"{town.package.name}":{total}}}' in said


KILLED = """
import { Dues } from "dues-client";
const [storeId, packageId] = process.argv.slice(2);
const dues = new Dues({ retries: 10 });
const started = await dues.payments.create(storeId, { package_id: packageId, payment_method: "sandbox_ok" });
const replayed = dues.last.headers.get("idempotency-replayed");
const payment = await started.wait();
const rows = `external_id,email,name\\nC-1,${storeId}@example.com,Ada\\n`;
const owner = new Dues({ token: process.env.OWNER_TOKEN });
const imported = await (await owner.imports.create(storeId, rows, { query: { kind: "customers" } })).wait();
console.log(JSON.stringify([replayed, payment.status, imported.created]));
"""


def test_a_server_killed_before_it_answers_charges_once(
    project: Path, town: Town, servers: Servers, tmp_path: Path
) -> None:
    """It dies after the payment was committed; the client's next attempt meets the one that takes its place."""
    marker = tmp_path / "killed"
    (project / "killed.mjs").write_text(KILLED)
    with WebServer(servers, DUES_FAILPOINTS=f"web.after_commit=kill:{marker}") as web:
        tokens = {"DUES_TOKEN": town.make.token(town.customer), "OWNER_TOKEN": town.make.token(town.owner)}
        environ = os.environ | tokens | {"DUES_URL": web.url}
        said = run("node", "killed.mjs", town.store_id, str(town.package.id), cwd=project, env=environ)
    assert marker.exists()
    assert '["true","succeeded",1]' in said
    rows = town.make.rows("select status from payments where store_id = %(store)s", {"store": town.store.id})
    assert [row.status for row in rows] == ["succeeded"]


def test_what_is_written_by_hand_stays_small() -> None:
    by_hand = [file for file in (SDK / "src").glob("*.ts") if file.name != "generated.ts"]
    assert 300 < sum(len(file.read_text().splitlines()) for file in by_hand) < MOST_LINES
