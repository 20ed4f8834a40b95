"""`sonia audit`: what was decided and done, whether that record is whole, and a copy of it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sonia.commands import terminal
from sonia.commands.server import Server
from sonia.config import Config
from sonia.errors import Conflict

EPILOG = """\
examples:
  sonia audit                         the newest rows
  sonia audit show --kind tool        of one kind: decision, approval, tool, egress, task, …
  sonia audit verify                  is the chain of hashes whole?
  sonia audit verify --head HASH      and does it still hold what it held then?
  sonia audit export ledger.jsonl     all of it, a row a line; the last line is the head
  sonia audit failed                  effects that failed, and may be tried again
  sonia audit replay let_…            under a new decision; dismiss leaves it at that

Who can write the database can rewrite all of it: keep a head elsewhere to rule that out.
"""
PAGE = 1_000


class Broken(Conflict):
    """The ledger is not what was written."""


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Show, check and copy the record of what was decided and done."
    parser = subparsers.add_parser("audit", help=about, description=about, epilog=EPILOG)
    parser.set_defaults(run=run_show, kind=None, limit=20)
    actions = parser.add_subparsers(
        title="actions", metavar="show|verify|export|failed|replay|dismiss"
    )
    show = actions.add_parser("show", help="the newest rows, oldest first")
    show.add_argument("--kind", help="only kinds that begin so")
    show.add_argument("--limit", type=int, default=20, help="how many (20)")
    verify = actions.add_parser("verify", help="recompute the chain of hashes")
    verify.add_argument("--head", help="a hash noted earlier, which must still be in it")
    verify.set_defaults(run=run_verify)
    export = actions.add_parser("export", help="all of it as JSON lines")
    export.add_argument("file", metavar="FILE", help="a new file, or - for standard output")
    export.set_defaults(run=run_export)
    failed = actions.add_parser("failed", help="effects that failed")
    failed.set_defaults(run=run_failed)
    for verb, run in (("replay", run_replay), ("dismiss", run_dismiss)):
        action = actions.add_parser(verb, help=f"{verb} one that failed")
        action.add_argument("id", metavar="ID")
        action.set_defaults(run=run)


def run_show(args: argparse.Namespace, config: Config) -> int:
    """Print a line per row."""
    fits = [row for row in _rows(Server.find(config)) if row["kind"].startswith(args.kind or "")]
    for row in fits[-args.limit :] if args.limit > 0 else []:
        said = terminal.visible(json.dumps(row["data"], ensure_ascii=False))
        print(f"{row['number']:>6}  {row['at'][:19]}  {row['kind']:<18}  {said}")
    if not fits:
        print("Nothing is on the record.")
    return 0


def run_verify(args: argparse.Namespace, config: Config) -> int:
    """Say whether it is whole, and its head. Raises `Broken`."""
    server = Server.find(config)
    check = server.get("/control/audit/verify")
    if not check["ok"]:
        raise Broken(f"The ledger is not what was written: row {check['broken_at']} does not fit.")
    if args.head and all(row["hash"] != args.head for row in _rows(server)):
        raise Broken("The ledger is whole, but that head was never in it: it was rewritten.")
    print(f"{check['entries']} rows, whole. Head: {check['head']}")
    return 0


def run_export(args: argparse.Namespace, config: Config) -> int:
    """Write every row and the head. A file is new and only its owner can read it."""
    server = Server.find(config)
    check = server.get("/control/audit/verify")
    if args.file == "-":
        _write(server, check, sys.stdout)
        return 0
    try:
        descriptor = os.open(Path(args.file), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        why = error.strerror or str(error)
        raise Conflict(f"{args.file} can't be made: {why}. Name a new file.") from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        _write(server, check, file)
    print(f"{args.file}: {check['entries']} rows. Head: {check['head']}")
    return 0


def run_failed(args: argparse.Namespace, config: Config) -> int:
    """Print a line per dead letter, newest first."""
    found = Server.find(config).get("/control/dead-letters?state=open")
    for letter in found:
        arguments = terminal.visible(json.dumps(letter["arguments"], ensure_ascii=False))[:60]
        said = terminal.visible(letter["error"])[:80]
        print(f"{letter['id']}  {letter['at'][:19]}  {letter['tool']} {arguments}  {said}")
    if not found:
        print("Nothing failed.")
    return 0


def run_replay(args: argparse.Namespace, config: Config) -> int:
    """Try one again, and say what became of it."""
    done = Server.find(config).post(f"{_path(args.id)}/replay", timeout_s=620.0)
    print(f"{args.id}: {done['status']} as {done['action_id']}")
    if done["status"] == "approval_required":
        print(f"Approve it with: sonia approvals approve {done['approval_id']}")
    return 0 if done["status"] in ("executed", "approval_required") else 1


def run_dismiss(args: argparse.Namespace, config: Config) -> int:
    """Leave one at that."""
    print(f"{args.id}: {Server.find(config).delete(_path(args.id))['state']}")
    return 0


def _path(letter_id: str) -> str:
    return f"/control/dead-letters/{quote(letter_id, safe='')}"


def _rows(server: Server) -> Iterator[dict[str, Any]]:
    after = 0
    while page := server.get(f"/control/audit?after={after}&limit={PAGE}"):
        yield from page
        after = page[-1]["number"]


def _write(server: Server, check: dict[str, Any], file: Any) -> None:
    for row in _rows(server):
        if row["number"] > check["entries"]:  # written meanwhile: not what was checked
            break
        file.write(json.dumps(row, ensure_ascii=False) + "\n")
    head = {"head": check["head"], "entries": check["entries"], "ok": check["ok"]}
    file.write(json.dumps(head) + "\n")
