"""`sonia usage`: what models took, by day; and allowing more."""

from __future__ import annotations

import argparse
from typing import Any
from urllib.parse import urlencode

from sonia.commands.server import Server, operator_token
from sonia.config import Config

EPILOG = """\
examples:
  sonia usage                              the last 30 days, by day and model
  sonia usage --days 1 --user ana
  sonia usage allow --usd 2                today's budget may be passed by 2 dollars
  sonia usage allow --tokens 50000 --session ses_…

Allowing works where services.model_router.budgets.on_limit is "ask".
"""


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Say what models took: calls, tokens, money; or allow more."
    parser = subparsers.add_parser("usage", help=about, description=about, epilog=EPILOG)
    parser.add_argument("--days", type=int, default=30, help="how many days back (30)")
    parser.add_argument("--user", help="of one person only")
    parser.set_defaults(run=run)
    actions = parser.add_subparsers(title="actions", metavar="allow")
    allow = actions.add_parser("allow", help="let a budget be passed by so much")
    allow.add_argument("--usd", type=float, default=0.0)
    allow.add_argument("--tokens", type=int, default=0)
    whose = allow.add_mutually_exclusive_group()
    whose.add_argument("--user", dest="whose_user", help="the budget of this person")
    whose.add_argument("--session", dest="whose_session", help="the budget of this session")
    allow.set_defaults(run=run_allow)


def run(args: argparse.Namespace, config: Config) -> int:
    """Print a line per day and model."""
    query: dict[str, Any] = {"days": args.days}
    if args.user:
        query["user_id"] = args.user
    told = Server.find(config).get(f"/router/usage?{urlencode(query)}")
    for row in told["usage"]:
        print(
            f"{row['day']}  {row['model']:<44} {row['calls']:>6} calls"
            f" {row['prompt_tokens']:>9} + {row['completion_tokens']:<8} tokens  {_money(row)}"
        )
    if not told["usage"]:
        print("No model was called.")
    for budget in told["budgets"]:
        print(_budget(budget))
    return 0


def run_allow(args: argparse.Namespace, config: Config) -> int:
    """Let a budget be passed."""
    body: dict[str, Any] = {"scope": "day", "usd": args.usd, "tokens": args.tokens}
    if args.whose_user:
        body |= {"scope": "user", "key": args.whose_user}
    elif args.whose_session:
        body |= {"scope": "session", "key": args.whose_session}
    token = operator_token(config.data)
    print(_budget(Server.find(config).post("/router/usage/allow", body, token=token)))
    return 0


def _money(row: dict[str, Any]) -> str:
    known = f"${row['cost_usd']:.4f}"
    unknown = row["unpriced_calls"]
    if not unknown:
        return known
    return "cost unknown" if unknown == row["calls"] else f"{known} and {unknown} of unknown cost"


def _budget(budget: dict[str, Any]) -> str:
    whose = f"{budget['scope']} {budget['key']}".strip()
    parts = []
    if budget["limit_usd"]:
        parts.append(f"${budget['spent_usd']:.4f} of ${budget['limit_usd']:.2f}")
    if budget["limit_tokens"]:
        parts.append(f"{budget['spent_tokens']} of {budget['limit_tokens']} tokens")
    return f"Budget of {whose}: {', '.join(parts)}"
