"""The command line `dues`.

    dues login                                  dues list payments status=failed amount_gte=1000 --json
    dues pay 15.00 EUR --method sandbox_ok      dues get payment 019aa1c2-…
    dues report payments -o payments.csv        dues job 019aa1c2-…
    dues events --follow                        dues listen --forward http://localhost:3000/hooks
    dues imports create --kind customers --file customers.csv --wait

On a terminal lists are tables and work has a progress bar; elsewhere lines are tab-separated, and there are no bars.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from dues_client import Dues, __version__
from dues_client.cli import commands
from dues_client.cli.config import Config
from dues_client.cli.output import Output
from dues_client.errors import DuesError


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns: the exit status."""
    options = _parser().parse_args(arguments)
    output = Output(as_json=getattr(options, "json", False))
    try:
        config = Config.read()
        url = options.url or os.environ.get("DUES_URL") or config.url
        token = os.environ.get("DUES_TOKEN") or config.token
        # A token is for the server that it is from.
        with Dues(token if url == config.url or "DUES_TOKEN" in os.environ else "", url=url, retries=2) as dues:
            options.run(commands.Context(dues, config, output, options))
            sys.stdout.flush()
    except commands.Usage as wrong:
        sys.stderr.write(f"dues: {wrong}\n")
        return 2
    except commands.Refused as refused:
        sys.stderr.write(f"dues: {refused}\n")
        return 1
    except (DuesError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            # Whoever reads has seen enough: nothing more is to be flushed into the pipe at the end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        sys.stderr.write(f"dues: {error}\n")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dues", description="Talk to Dues, the membership and payments backend.")
    parser.add_argument("--version", action="version", version=f"dues {__version__}")
    parser.add_argument("--url", help="where Dues is; by default DUES_URL, or where you have logged in")
    names = parser.add_subparsers(metavar="COMMAND", required=True)

    login = names.add_parser("login", help="log in, and remember the token")
    login.add_argument("email", nargs="?")
    login.add_argument("--store", help="the store that commands are about unless they name one")
    login.set_defaults(run=commands.log_in)
    names.add_parser("logout", help="revoke the token, and forget it").set_defaults(run=commands.log_out)
    who = names.add_parser("whoami", help="whose token this is")
    _json(who).set_defaults(run=commands.who_am_i)

    rows = names.add_parser("list", help="list anything", description=commands.listable())
    rows.add_argument("what")
    rows.add_argument("filters", nargs="*", metavar="name=value", help="filters, sort, fields, ids that the path needs")
    rows.add_argument("--limit", type=int, default=50, help="at most so many rows (default: %(default)s); 0: all")
    _json(_store(rows)).set_defaults(run=commands.list_rows)
    one = names.add_parser("get", help="show one thing")
    one.add_argument("what", help="payment, package, job, …")
    one.add_argument("id")
    _store(one).set_defaults(run=commands.get_row)

    pay = names.add_parser("pay", help="pay an amount, or for a package")
    pay.add_argument("amount", nargs="?", help="such as 15.00")
    pay.add_argument("currency", nargs="?", help="such as EUR")
    pay.add_argument("--package", help="a package's id, instead of an amount")
    pay.add_argument("--method", default="sandbox_ok", help="a stored payment method, or a gateway's token")
    pay.add_argument("--description", default="")
    pay.add_argument("--key", help="an Idempotency-Key of yours: the same command again pays nothing more")
    _json(_store(pay)).set_defaults(run=commands.pay)
    job = names.add_parser("job", help="follow a job to its end")
    job.add_argument("id")
    _json(job).set_defaults(run=commands.follow_job)

    report = names.add_parser("report", help="have a report made, and download it")
    report.add_argument("kind", help="payments or revenue")
    report.add_argument("--format", default="csv", help="csv, xlsx, json or pdf (default: %(default)s)")
    report.add_argument("--from", dest="begin", help="first day or time (default: a month ago)")
    report.add_argument("--to", dest="end", help="the day or time after the last (default: now)")
    report.add_argument("-o", "--output", help="the file (default: the name that the server gives); -: standard output")
    _store(report).set_defaults(run=commands.make_report)

    _imports(names.add_parser("imports", help="bring customers, packages or subscriptions along"))
    events = names.add_parser("events", help="what has happened in a store")
    events.add_argument("--after", type=int, help="those after this number (default: the last ten)")
    events.add_argument("--follow", "-f", action="store_true", help="wait for more")
    _json(_store(events)).set_defaults(run=commands.show_events)
    listen = names.add_parser("listen", help="have a local server sent what webhooks would bring")
    listen.add_argument("--forward", required=True, metavar="URL")
    listen.add_argument("--events", default="*", help="types, with commas between; by default all")
    listen.add_argument("--after", type=int, help="begin after this number (default: with what happens from now on)")
    _store(listen).set_defaults(run=commands.listen)
    return parser


def _imports(parser: argparse.ArgumentParser) -> None:
    create = parser.add_subparsers(metavar="create", required=True).add_parser("create", help="import a file")
    create.add_argument("--file", required=True, help="a CSV, or a JSON object on each line")
    create.add_argument("--kind", required=True, choices=("customers", "packages", "subscriptions"))
    create.add_argument("--wait", action="store_true", help="until it is done; then save what was refused, and why")
    create.add_argument("-o", "--output", help="the file for what was refused (default: refused-ID.csv)")
    _json(_store(create)).set_defaults(run=commands.make_import)


def _store(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--store", help="the store's id; by default that of `dues login --store`, or DUES_STORE")
    return parser


def _json(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    parser.add_argument("--json", action="store_true", help="JSON, one document a line")
    return parser


if __name__ == "__main__":
    sys.exit(main())
