"""`sonia actions`: what was done, and taking it back."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from sonia.commands import terminal
from sonia.commands.server import Server, operator_token
from sonia.config import Config

EPILOG = """\
examples:
  sonia actions                    what was done, newest first
  sonia actions show act_…         all of one: what was shown, what came of it, what left here
  sonia actions undo act_…         make it as it was before

What is written to files and deleted can be undone for 30 days, unless the file has changed since.
"""
UNDO_S = 60.0


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "List what was done, and undo it."
    parser = subparsers.add_parser("actions", help=about, description=about, epilog=EPILOG)
    parser.set_defaults(run=run_list, limit=20)
    verbs = parser.add_subparsers(title="actions", metavar="list|show|undo")
    listing = verbs.add_parser("list", help="what was done, newest first")
    listing.add_argument("--limit", type=int, default=20, help="how many at most")
    for verb, run, help_ in (
        ("show", run_show, "one, whole"),
        ("undo", run_undo, "make it as it was before"),
    ):
        one = verbs.add_parser(verb, help=help_)
        one.add_argument("id", metavar="ID")
        one.set_defaults(run=run)


def run_list(args: argparse.Namespace, config: Config) -> int:
    """Print a line per action, newest first."""
    found = Server.find(config).get(f"/v1/actions?limit={args.limit}")
    for action in found:
        first = terminal.visible(action.get("preview") or "").partition("\n")[0][:60]
        can = "  (can be undone)" if action.get("undoable") else ""
        print(f"{action['action_id']}  {action['status']:<17} {action['tool']}  {first}{can}")
    if not found:
        print("Nothing was done yet.")
    return 0


def run_show(args: argparse.Namespace, config: Config) -> int:
    """Print all of one."""
    action = Server.find(config).get(f"/v1/actions/{quote(args.id, safe='')}")
    print(f"{action['tool']}: {action['status']}, risk {action['risk']}, {action['created_at']}")
    if action.get("preview"):
        print(terminal.visible(action["preview"]))
    if error := action.get("error"):
        print(f"Why: {terminal.visible(error['message'])}")
    for sent in action.get("sent", []):
        place = sent["address"] or "nowhere"
        print(f"Sent {sent['sent_bytes']} bytes to {place}: {terminal.visible(sent['url'])}")
    if action.get("undoable"):
        print(f"Undo it with: sonia actions undo {action['action_id']}")
    return 0


def run_undo(args: argparse.Namespace, config: Config) -> int:
    """Undo one, with the operator's token."""
    path = f"/tools/undo/{quote(args.id, safe='')}"
    token = operator_token(config.data)
    action = Server.find(config).post(path, {}, token=token, timeout_s=UNDO_S)
    print(f"{action['action_id']}: {action['status']}")
    return 0
