"""`sonia approvals`: what waits for a yes, and giving it."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from sonia.commands import terminal
from sonia.commands.chat import question, settle
from sonia.commands.server import Server
from sonia.config import Config

EPILOG = """\
examples:
  sonia approvals                     what is waiting
  sonia approvals list --all          answered ones too
  sonia approvals ask                 show each whole, and take a yes or no for it
  sonia approvals show appr_…         all of one, exactly as it would run
  sonia approvals approve appr_…
  sonia approvals deny appr_… --reason "wrong folder"

An approval holds for exactly the call that was shown, once, until it expires.
"""


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "List, show and answer what waits for your consent."
    parser = subparsers.add_parser("approvals", help=about, description=about, epilog=EPILOG)
    parser.set_defaults(run=run_list, all=False)
    actions = parser.add_subparsers(title="actions", metavar="list|ask|show|approve|deny")
    listing = actions.add_parser("list", help="what is waiting")
    listing.add_argument("--all", action="store_true", help="answered and expired ones too")
    asking = actions.add_parser("ask", help="show each that is waiting, and take a yes or no")
    asking.set_defaults(run=run_ask)
    show = actions.add_parser("show", help="one, whole")
    show.add_argument("id", metavar="ID")
    show.set_defaults(run=run_show)
    for verb in ("approve", "deny"):
        answer = actions.add_parser(verb, help=f"{verb} one")
        answer.add_argument("id", metavar="ID")
        answer.add_argument("--reason", default="", help="kept with the answer")
        answer.set_defaults(run=run_settle, verb=verb)


def run_list(args: argparse.Namespace, config: Config) -> int:
    """Print a line per approval, newest first."""
    found = Server.find(config).get("/v1/approvals" + ("" if args.all else "?state=pending"))
    for approval in found:
        first = terminal.visible(approval["preview"]).partition("\n")[0][:80]
        print(
            f"{approval['id']}  {approval['state']:<9} risk {approval['risk_tier']}"
            f"  {approval['tool']}  {first}"
        )
    if not found:
        print("Nothing is waiting." if not args.all else "There are none.")
    return 0


def run_ask(args: argparse.Namespace, config: Config) -> int:
    """Show each that is waiting, oldest first, and take a yes or no from standard input."""
    server = Server.find(config)
    waiting = server.get("/v1/approvals?state=pending")
    for approval in reversed(waiting):
        print(question(approval))
        try:
            said = input("Allow? [y/N] ").strip().lower()
        except EOFError:  # no answer is no answer, not a no
            print()
            break
        verb = "approve" if said in ("y", "yes") else "deny"
        settled = settle(server, config.data, approval["id"], verb, "")
        print(f"{settled['id']}: {settled['state']}")
    if not waiting:
        print("Nothing is waiting.")
    return 0


def run_show(args: argparse.Namespace, config: Config) -> int:
    """Print all of one."""
    approval = Server.find(config).get(f"/v1/approvals/{quote(args.id, safe='')}")
    print(question(approval))
    print(f"State: {approval['state']}. Why: {terminal.visible(approval['reason'])}")
    return 0


def run_settle(args: argparse.Namespace, config: Config) -> int:
    """Approve or deny one."""
    approval = settle(Server.find(config), config.data, args.id, args.verb, args.reason)
    print(f"{approval['id']}: {approval['state']}")
    return 0
