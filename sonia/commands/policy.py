"""`sonia policy`: the rules, the mode, and why a call would be decided as it would."""

from __future__ import annotations

import argparse
import json
import re
from typing import Any

from sonia.commands import terminal
from sonia.commands.server import Server, operator_token
from sonia.config import Config
from sonia.errors import InvalidRequest

EPILOG = """\
examples:
  sonia policy                                the rules in force, and the mode
  sonia policy test "rm -rf build"            what would become of a shell command, and why
  sonia policy test "file.write path=a.txt content=hello"
  sonia policy test 'web.fetch {"url": "https://example.org/"}' --origin file
  sonia policy mode                           how Sonia is set
  sonia policy mode diagnostic                set her so that she only looks

Rules are tried in order and the first that fits decides; docs/control.md says what they can say.
"""
MODES = ("conversation", "operator", "diagnostic", "dictation", "build")
CONDITIONS = ("path", "host", "command", "user", "mode")
ORIGINS = ("owner", "model", "web", "file", "memory", "tool", "speaker")
_TOOL = re.compile(r"[a-z][a-z0-9_-]*(\.[a-z0-9_-]+)+")


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "What Sonia may do: the rules, the mode, and why."
    parser = subparsers.add_parser("policy", help=about, description=about, epilog=EPILOG)
    parser.set_defaults(run=run_show)
    actions = parser.add_subparsers(title="actions", metavar="show|test|mode")
    actions.add_parser("show", help="the rules in force").set_defaults(run=run_show)
    test = actions.add_parser("test", help="explain what would be decided about a call")
    test.add_argument("call", metavar="CALL", help="a shell command, or a tool and its arguments")
    test.add_argument("--origin", choices=ORIGINS, action="append", help="where it came from")
    test.add_argument("--user", help="for whom")
    test.add_argument("--session", help="in which session")
    test.add_argument("--private", action="store_true", help="files or memories were read before")
    test.add_argument("--unattended", action="store_true", help="nobody is there")
    test.set_defaults(run=run_test)
    mode = actions.add_parser("mode", help="show or change the mode")
    mode.add_argument("mode", nargs="?", choices=MODES, metavar="MODE", help=", ".join(MODES))
    mode.set_defaults(run=run_mode)


def run_show(args: argparse.Namespace, config: Config) -> int:
    """Print the mode and a line per rule, in the order in which they are tried."""
    server = Server.find(config)
    print(f"Mode: {server.get('/control/mode')['mode']}")
    policy = server.get("/control/policy")
    for source, rules in (("file", policy["file_rules"]), ("policy", policy["rules"])):
        for place, rule in enumerate(rules):
            print(f"{source}:{place}  {_line(rule)}")
    print("Otherwise what only reads is done, and anything else asks.")
    return 0


def run_test(args: argparse.Namespace, config: Config) -> int:
    """Print the decision and every step to it."""
    tool, arguments = read_call(args.call)
    context: dict[str, Any] = {"private": args.private, "unattended": args.unattended}
    if args.origin:
        context["origins"] = args.origin
    for name, value in (("user_id", args.user), ("session_id", args.session)):
        if value:
            context[name] = value
    body = {"tool_name": tool, "args": arguments, "context": context}
    found = Server.find(config).post("/control/policy/test", body)
    print(f"{found['verdict']}  (tier {found['risk_tier']}, rule {found['rule']})")
    for step in found["steps"]:
        print(f"  - {terminal.visible(step)}")
    return 0


def run_mode(args: argparse.Namespace, config: Config) -> int:
    """Print the mode, changed first when one is given."""
    server = Server.find(config)
    if args.mode:
        server.put("/control/mode", {"mode": args.mode}, token=operator_token(config.data))
    print(server.get("/control/mode")["mode"])
    return 0


def read_call(text: str) -> tuple[str, dict[str, Any]]:
    """Tool and arguments: `tool name=value …`, `tool {json}`, else a shell command."""
    first, _, rest = text.strip().partition(" ")
    if not _TOOL.fullmatch(first):
        return "shell.run", {"command": text}
    if rest.lstrip().startswith("{"):
        return first, _json(rest)
    arguments = {}
    for name, value in re.findall(r"(\w+)=('[^']*'|\"[^\"]*\"|\S*)", rest):
        plain = value[1:-1] if value[:1] in ("'", '"') else value
        arguments[name] = plain
    return first, arguments


def _json(text: str) -> dict[str, Any]:
    try:
        arguments = json.loads(text)
    except ValueError as error:
        raise InvalidRequest(f"The arguments are no JSON: {error}.") from error
    if not isinstance(arguments, dict):
        raise InvalidRequest('The arguments have to be a JSON object, like {"path": "a.txt"}.')
    return arguments


def _line(rule: dict[str, Any]) -> str:
    limits = [f"{name} {rule[name]}" for name in CONDITIONS if rule.get(name)]
    said = f"  ({rule['reason']})" if rule.get("reason") else ""
    line = f"{rule['verdict']:<5} {rule['tool']} {', '.join(limits)}".rstrip()
    return terminal.visible(line + said)
