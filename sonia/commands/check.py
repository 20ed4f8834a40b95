"""`sonia check`: is everything that is kept what was written?"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

from sonia.commands.server import Server
from sonia.config import Config
from sonia.errors import Conflict
from sonia.running import holding, read

TIMEOUT_S = 3600.0
EPILOG = """\
Reads the whole database: SQLite's own checks, every memory, version and ledger row against its
SHA-256, the chain of the audit. Works beside a running Sonia and without one. Exit status 1 when
something is damaged.
"""


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Read everything that is kept, and compare it with what was written."
    parser = subparsers.add_parser("check", help=about, description=about, epilog=EPILOG)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace, config: Config) -> int:
    """Print what was found; 1 when anything is damaged."""
    found = _online(config) if read(config.data) else _offline(config)
    for fault in found["faults"]:
        print(f"database: {fault}")
    for row in found["damaged"]:
        version = f", version {row['version']}" if row.get("version") else ""
        print(f"{row['place']} {row['number']}{version}: {row['why']}")
    counted = ", ".join(f"{count} {table}" for table, count in sorted(found["rows"].items()))
    if found["ok"]:
        print(f"All is what was written: {counted or 'no rows'}.")
        return 0
    print(f"Damaged: {found['damaged_rows']} rows, {len(found['faults'])} faults of the file.")
    print("Restore a backup: sonia backup list, sonia stop, sonia backup restore NAME")
    return 1


def _online(config: Config) -> dict[str, Any]:
    server = Server.find(config)
    found: dict[str, Any] = server.post("/memory/check", timeout_s=TIMEOUT_S)
    audit = server.get("/control/audit/verify")
    found["rows"]["control_ledger"] = audit["entries"]
    if not audit["ok"]:
        why = "the chain of hashes breaks here"
        row = {"place": "control_ledger", "number": audit["broken_at"], "why": why}
        found["damaged"].append(row)
        found["damaged_rows"] += 1
        found["ok"] = False
    return found


def _offline(config: Config) -> dict[str, Any]:
    import msgspec

    from sonia import app
    from sonia.db import connect
    from sonia.integrity import check_file

    path = app.database(config)
    if not path.is_file():
        raise Conflict(f"There is no database in {config.data} yet. Start Sonia: sonia serve")
    with holding(config.data):
        result = check_file(path, partial(connect, read_only=True), app.CHECKERS)
    found: dict[str, Any] = msgspec.to_builtins(result)
    return found
