"""`sonia tasks`: what is planned, and planning more."""

from __future__ import annotations

import argparse
import datetime as dt
from typing import Any
from urllib.parse import quote

from sonia.commands import terminal
from sonia.commands.server import Server
from sonia.config import Config

EPILOG = """\
examples:
  sonia tasks                                   what is planned, the next one first
  sonia tasks add "every weekday at eight, read me my notes"
  sonia tasks add "read me my notes" --when "0 8 * * mon-fri"
  sonia tasks add --remind "call Ana, tomorrow at 9"
  sonia tasks show task_…                       with how its runs ended
  sonia tasks run task_…                        now, besides its schedule
  sonia tasks remove task_…

A task is a turn that nobody attends: what needs your consent asks for it, and waits.
"""
RUN_TIMEOUT_S = 3700.0


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "List, add, run and remove work for later."
    parser = subparsers.add_parser("tasks", help=about, description=about, epilog=EPILOG)
    parser.set_defaults(run=run_list, all=False)
    actions = parser.add_subparsers(title="actions", metavar="list|add|show|run|remove")
    listing = actions.add_parser("list", help="what is planned")
    listing.add_argument("--all", action="store_true", help="what is over, too")
    adding = actions.add_parser("add", help="plan something")
    adding.add_argument("text", metavar="TEXT", help="what, with when at its beginning or end")
    adding.add_argument("--when", help="in words, cron or RFC 3339, if TEXT does not say it")
    adding.add_argument("--remind", action="store_true", help="only say TEXT then")
    adding.set_defaults(run=run_add)
    verbs = {"show": run_show, "run": run_now, "remove": run_remove}
    for verb, run in verbs.items():
        action = actions.add_parser(verb, help=f"{verb} one")
        action.add_argument("id", metavar="ID")
        action.set_defaults(run=run)


def run_list(args: argparse.Namespace, config: Config) -> int:
    """Print a line per task."""
    found = Server.find(config).get("/control/tasks" + ("?over=true" if args.all else ""))
    for task in found:
        print(_line(task))
    if not found:
        print("Nothing is planned.")
    return 0


def run_add(args: argparse.Namespace, config: Config) -> int:
    """Plan one, and say when it will be done."""
    body = {"text": args.text, "kind": "reminder" if args.remind else "turn"}
    if args.when:
        body["when"] = args.when
    print(_line(Server.find(config).post("/control/tasks", body)))
    return 0


def run_show(args: argparse.Namespace, config: Config) -> int:
    """Print one and its runs, newest first."""
    task = Server.find(config).get(_path(args.id))
    print(_line(task))
    for run in task["runs"]:
        _print_run(run)
    return 0


def run_now(args: argparse.Namespace, config: Config) -> int:
    """Do it now, and print how that ended."""
    run = Server.find(config).post(f"{_path(args.id)}/run", timeout_s=RUN_TIMEOUT_S)
    _print_run(run)
    return 0 if run["status"] == "done" else 1


def run_remove(args: argparse.Namespace, config: Config) -> int:
    """Take it off the plan, with its runs."""
    Server.find(config).delete(_path(args.id))
    print(f"{args.id}: removed")
    return 0


def _path(task_id: str) -> str:
    return f"/control/tasks/{quote(task_id, safe='')}"


def _line(task: dict[str, Any]) -> str:
    schedule = task["schedule"]
    again = schedule.get("cron") or (
        f"every {schedule['every_s']} s" if schedule.get("every_s") else "once"
    )
    coming = _local(task["next_at"]) if task["next_at"] else "over"
    text = terminal.visible(task["text"]).partition("\n")[0][:80]
    return f"{task['id']}  {coming:<16}  {again:<16}  {task['kind']:<8}  {text}"


def _print_run(run: dict[str, Any]) -> None:
    said = terminal.visible(run["error"] or run["response"])
    print(f"{_local(run['started_at'])}  {run['status']:<7}  {said}")
    if run["status"] == "waiting":
        print(f"Answer it with: sonia approvals approve {run['approvals'][-1]}")


def _local(moment: str) -> str:
    return f"{dt.datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"
