"""`sonia approvals`: what waits for a yes, and giving it."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import quote

from sonia.commands import terminal
from sonia.commands.chat import UNBOUNDED, confirmation_code, question, settle
from sonia.commands.server import Server, operator_token
from sonia.config import Config

EPILOG = """\
examples:
  sonia approvals                     what is waiting
  sonia approvals list --all          answered ones too
  sonia approvals ask                 show each whole, and take a yes or no for it
  sonia approvals show appr_…         all of one, exactly as it would run
  sonia approvals approve appr_…
  sonia approvals approve appr_… --trust session     and do not ask about such calls for a while
  sonia approvals approve appr_… --code 123456       what is worst takes the code that show shows
  sonia approvals deny appr_… --reason "wrong folder"

  sonia approvals trust               what you said need not be asked again
  sonia approvals distrust tru_…      ask again from now on

An approval holds for exactly the call that was shown, once, until it expires. Trust holds for an
hour, in its session: "exact" for the same call again, "session" for any call of that tool that is
no riskier.
"""


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "List, show and answer what waits for your consent."
    parser = subparsers.add_parser("approvals", help=about, description=about, epilog=EPILOG)
    parser.set_defaults(run=run_list, all=False)
    actions = parser.add_subparsers(title="actions", metavar="ACTION")
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
        answer.set_defaults(run=run_settle, verb=verb, code=None, trust=None)
        if verb == "approve":
            answer.add_argument("--code", help="the confirmation code, where one is needed")
            answer.add_argument("--trust", choices=("exact", "session"), help="for how much more")
    trust = actions.add_parser("trust", help="what need not be asked again, and until when")
    trust.set_defaults(run=run_trust)
    distrust = actions.add_parser("distrust", help="ask again from now on")
    distrust.add_argument("id", metavar="ID")
    distrust.set_defaults(run=run_distrust)


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
        code = None
        if approval["risk_tier"] >= UNBOUNDED:
            code = confirmation_code(server, config.data, approval["id"])
        try:
            said = input(f"Type {code} to allow: " if code else "Allow? [y/N] ").strip().lower()
        except EOFError:  # no answer is no answer, not a no
            print()
            break
        yes = said == code if code else said in ("y", "yes")
        verb = "approve" if yes else "deny"
        settled = settle(server, config.data, approval["id"], verb, code=code if yes else None)
        print(f"{settled['id']}: {settled['state']}")
    if not waiting:
        print("Nothing is waiting.")
    return 0


def run_show(args: argparse.Namespace, config: Config) -> int:
    """Print all of one."""
    server = Server.find(config)
    approval = server.get(f"/v1/approvals/{quote(args.id, safe='')}")
    print(question(approval))
    if approval["needs_code"] and approval["state"] == "pending":
        print(f"A yes needs this code: {confirmation_code(server, config.data, approval['id'])}")
    print(f"State: {approval['state']}. Why: {terminal.visible(approval['reason'])}")
    return 0


def run_settle(args: argparse.Namespace, config: Config) -> int:
    """Approve or deny one."""
    server = Server.find(config)
    approval = settle(
        server, config.data, args.id, args.verb, args.reason, code=args.code, trust=args.trust
    )
    print(f"{approval['id']}: {approval['state']}")
    return 0


def run_trust(args: argparse.Namespace, config: Config) -> int:
    """Print a line per trust in force, newest first."""
    return _show_trust(Server.find(config).get("/control/trust"))


def run_distrust(args: argparse.Namespace, config: Config) -> int:
    """End one, and print what is left."""
    path = f"/control/trust/{quote(args.id, safe='')}"
    return _show_trust(Server.find(config).delete(path, token=operator_token(config.data)))


def _show_trust(found: list[dict[str, Any]]) -> int:
    for trust in found:
        what = "this exact call" if trust["kind"] == "exact" else f"up to risk {trust['risk_tier']}"
        print(f"{trust['id']}  {trust['tool']}  {what}  until {trust['expires_at']}")
    if not found:
        print("Everything is asked about.")
    return 0
