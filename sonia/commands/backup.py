"""`sonia backup create|list|verify|restore|purge`: whole copies of what Sonia knows."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sonia.commands.server import Server, operator_token
from sonia.config import Config
from sonia.errors import Conflict
from sonia.running import AlreadyRunning, holding, read

TIMEOUT_S = 3600.0
EPILOG = """\
examples:
  sonia backup create                       now, beside a running Sonia or without one
  sonia backup list                         newest first
  sonia backup verify                       read the newest again; or give a NAME
  sonia stop; sonia backup restore NAME     put it in the place of the database
  sonia backup purge                        forget in all of them what was forgotten since

They are made by themselves as well: see [backups] in sonia.toml. NAME may be a path.
"""


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Make, list, check and restore backups of everything Sonia keeps."
    parser = subparsers.add_parser("backup", help=about, description=about, epilog=EPILOG)
    parser.set_defaults(run=run_list)
    actions = parser.add_subparsers(title="actions", metavar="create|list|verify|restore|purge")
    actions.add_parser("create", help="make one now").set_defaults(run=run_create)
    actions.add_parser("list", help="what there is").set_defaults(run=run_list)
    verify = actions.add_parser("verify", help="read one again, whole")
    verify.add_argument("name", metavar="NAME", nargs="?", help="the newest, if left out")
    verify.set_defaults(run=run_verify)
    restore = actions.add_parser("restore", help="put one in the place of the database")
    restore.add_argument("name", metavar="NAME", help="a name that 'list' shows, or a path")
    restore.set_defaults(run=run_restore)
    about = "Write every backup anew without what was forgotten since. It then needs this version."
    purging = actions.add_parser(
        "purge", help="forget in them what was forgotten since", description=about
    )
    purging.set_defaults(run=run_purge)


def run_create(args: argparse.Namespace, config: Config) -> int:
    """Have the running Sonia make one, or make it here."""
    if running := read(config.data):
        server = Server(running)
        made = server.post("/v1/backups", token=operator_token(config.data), timeout_s=TIMEOUT_S)
    else:
        from sonia import app, backups
        from sonia.types import now

        _check_there(config)
        with holding(config.data):
            folder = config.backups_folder
            made = _plain(backups.make(app.database(config), folder, app.CHECKERS, now()))
            backups.prune(folder, config.backups.keep)
    print(f"{made['name']}  {_size(made['bytes'])}  SHA-256 {made['sha256']}")
    if made["damaged_rows"]:
        print(f"{made['damaged_rows']} rows of the database are damaged, so they are in it too.")
    return 0


def run_list(args: argparse.Namespace, config: Config) -> int:
    """A line per backup, newest first; then copies that were made before a change."""
    from sonia import backups

    found = backups.listed(config.backups_folder)
    for item in found:
        damaged = f"  {item.damaged_rows} damaged rows" if item.damaged_rows else ""
        print(f"{item.name}  {_size(item.bytes)}  {item.schema.partition('.')[0]}{damaged}")
    copies = sorted(config.data.glob("sonia.db.before-*[0-9Z]"))
    for path in copies:
        print(f"{path}  {_size(path.stat().st_size)}  kept before a change")
    if not found and not copies:
        print(f"There are none in {config.backups_folder}. Make one: sonia backup create")
    return 0


def run_verify(args: argparse.Namespace, config: Config) -> int:
    """Read one whole; 1 when it is not what was made."""
    from sonia import app, backups

    path = _path(config, args.name)
    found = backups.verify(path, app.CHECKERS)
    rows = sum(found.integrity.rows.values())
    if found.ok:
        print(f"{path.name}: whole. {rows} rows compared with their SHA-256.")
        return 0
    if not found.same:
        print(f"{path.name}: its SHA-256 is not the one in its manifest.")
    for fault in found.integrity.faults:
        print(f"{path.name}: {fault}")
    for row in found.integrity.damaged:
        print(f"{path.name}: {row.place} {row.number}: {row.why}")
    return 1


def run_restore(args: argparse.Namespace, config: Config) -> int:
    """Put one in the place of the database, which is kept aside."""
    from sonia import app, restoring
    from sonia.types import now

    path = _path(config, args.name)
    try:
        with holding(config.data):
            done = restoring.restore(
                path, app.database(config), app.MIGRATIONS, app.CHECKERS, app.mend, now()
            )
    except AlreadyRunning as error:
        raise Conflict(
            "Sonia is running, and a backup can't be put under her. Stop her first: sonia stop"
        ) from error
    print(f"{path.name} is the database now: {sum(done.rows.values())} rows.")
    if done.forgotten:
        counts = ", ".join(f"{count} {name}" for name, count in sorted(done.forgotten.items()))
        print(f"Forgotten in it, as it had been since: {counts}.")
    if not done.tombstones_complete:
        print(
            "The database before could not be read, so what was forgotten lately may be in the "
            "backup: forget it again."
        )
    if done.aside:
        print(f"What it was before is kept as {done.aside}")
    return 0


def run_purge(args: argparse.Namespace, config: Config) -> int:
    """Have the running Sonia write them anew, or do it here; 1 when one is damaged and stays."""
    if running := read(config.data):
        done = purge(config, Server(running))
    else:
        from sonia import app, purging

        _check_there(config)
        with holding(config.data):
            folder, database = config.backups_folder, app.database(config)
            made = purging.purge(folder, database, app.MIGRATIONS, app.CHECKERS, app.clean)
        done = _plain(made)
    return print_purged(done)


def purge(config: Config, server: Server) -> Mapping[str, Any]:
    """Have the running Sonia write all backups anew without what was forgotten."""
    token = operator_token(config.data)
    done: Mapping[str, Any] = server.post("/v1/backups/purge", token=token, timeout_s=TIMEOUT_S)
    return done


def print_purged(done: Mapping[str, Any]) -> int:
    """Say which were written anew; 1 when one could not be."""
    for old, new in done["rewritten"].items():
        print(f"{old} was written anew without what was forgotten: {new}")
    for name, why in done["left"].items():
        print(f"{name} still holds it: {why}")
    if not done["rewritten"] and not done["left"]:
        print("No backup holds anything that was forgotten.")
    return 1 if done["left"] else 0


def _path(config: Config, name: str | None) -> Path:
    from sonia import backups

    if name is None:
        newest = next(iter(backups.listed(config.backups_folder)), None)
        if newest is None:
            raise backups.BackupNotFound("There are no backups. Make one: sonia backup create")
        name = newest.name
    places = [config.backups_folder / name, Path(name).expanduser(), config.data / name]
    found = next((path for path in places if path.is_file()), None)
    if found is None:
        raise backups.BackupNotFound(f"No backup {name!r}: sonia backup list", name=name)
    return found


def _check_there(config: Config) -> None:
    if not (config.data / "sonia.db").is_file():
        raise Conflict(f"There is no database in {config.data} yet. Start Sonia: sonia serve")


def _plain(backup: Any) -> Mapping[str, Any]:
    import msgspec

    plain: Mapping[str, Any] = msgspec.to_builtins(backup)
    return plain


def _size(number: int) -> str:
    return f"{number / 1e6:.1f} MB"
