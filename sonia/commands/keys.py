"""`sonia keys create|list|revoke`: who may use the API."""

from __future__ import annotations

import argparse
import re
from typing import Any

from sonia.commands import terminal
from sonia.commands.server import NotRunning, Server, operator_token
from sonia.config import Config
from sonia.errors import InvalidRequest
from sonia.keys import create_key, read_keys, revoke_key
from sonia.types import DEFAULT_USER

EPILOG = """\
examples:
  sonia keys create desk              make a key, and show it this once
  sonia keys create ann --user ann    a key that speaks for another person
  sonia keys list
  sonia keys revoke desk              void from now on

As soon as there is one key, every program has to send one, as "Authorization: Bearer sk-sonia-…" or
"x-api-key". Only hashes are kept, in the data folder's api-keys.json.
"""
_NAME = re.compile(r"^[A-Za-z0-9_.\-]{1,64}$")


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Keys for programs that use the API: make, list, revoke."
    parser = subparsers.add_parser("keys", help=about, description=about, epilog=EPILOG)
    actions = parser.add_subparsers(title="actions", required=True, metavar="create|list|revoke")
    create = actions.add_parser("create", help="make a key and show it, once")
    create.add_argument("name", metavar="NAME")
    create.add_argument("--user", default=DEFAULT_USER, help="for whom it speaks (default: owner)")
    create.set_defaults(run=run_create)
    actions.add_parser("list", help="the keys there are").set_defaults(run=run_list)
    revoke = actions.add_parser("revoke", help="make one void")
    revoke.add_argument("name", metavar="NAME")
    revoke.set_defaults(run=run_revoke)


def run_create(args: argparse.Namespace, config: Config) -> int:
    """Print the key, and nothing else, on standard output."""
    if not _NAME.match(args.name):
        raise InvalidRequest("A key's name has 1 to 64 letters, digits and any of _ . -")
    if not 1 <= len(args.user) <= 128:
        raise InvalidRequest("A user's name has 1 to 128 characters.")
    print(create_key(config.data, args.name, args.user))
    _tell(config)
    terminal.note("Keep it: it is not shown again.")
    return 0


def run_list(args: argparse.Namespace, config: Config) -> int:
    """Print a line per key, oldest first."""
    kept = read_keys(config.data)
    for record in kept:
        print(f"{record.name:<20} {record.user:<20} {record.created_at}")
    for name, key in config.services.api_gateway.api_keys.items():
        print(f"{name:<20} {key.user:<20} in the configuration")
    if not kept and not config.services.api_gateway.api_keys:
        print("There are none: programs on this machine may use the API without.")
    return 0


def run_revoke(args: argparse.Namespace, config: Config) -> int:
    """Void one, in the running server too."""
    if args.name in config.services.api_gateway.api_keys:
        raise InvalidRequest(f"{args.name} is in the configuration. Remove it there.")
    revoke_key(config.data, args.name)
    _tell(config)
    print(f"{args.name} is void.")
    if not read_keys(config.data) and not config.services.api_gateway.api_keys:
        terminal.note("It was the last: programs on this machine need none from now on.")
    return 0


def _tell(config: Config) -> None:
    """Have a running server read the keys again."""
    try:
        server = Server.find(config)
    except NotRunning:
        return
    server.post("/v1/keys/reload", token=operator_token(config.data))
