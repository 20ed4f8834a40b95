"""`sonia config show|check`: what the settings are, where from, and whether they are right."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from sonia.config import Config, shown

EPILOG = """\
examples:
  sonia config show                       every effective value, secrets as ***
  sonia config show --json | jq .paths
  sonia --config other.toml config check
"""


def add(subparsers: Any) -> None:
    """Add the command."""
    about = "Show or check the configuration."
    parser = subparsers.add_parser("config", help=about, description=about, epilog=EPILOG)
    actions = parser.add_subparsers(title="actions", required=True, metavar="show|check")
    show = actions.add_parser("show", help="print every effective value, and where it is from")
    show.add_argument("--json", action="store_true", help="print JSON")
    show.set_defaults(run=run_show)
    check = actions.add_parser("check", help="say whether the configuration is valid")
    check.set_defaults(run=run_check)


def run_show(args: argparse.Namespace, config: Config) -> int:
    """Print the effective configuration."""
    if args.json:
        import json

        print(json.dumps(shown(config), indent=2, ensure_ascii=False))
        return 0
    print(f"# {_source(config)}")
    for path, value in _leaves(shown(config)):
        variable = config.overrides.get(path)
        print(f"{path} = {value}" + (f"  # from {variable}" if variable else ""))
    print(f"# data {config.data}, logs {config.logs}, models {config.models}")
    return 0


def run_check(args: argparse.Namespace, config: Config) -> int:
    """Print OK: a wrong configuration never gets here, it is an error with its reasons."""
    changed = f", {len(config.overrides)} from the environment" if config.overrides else ""
    print(f"OK: {_source(config)}{changed}")
    return 0


def _source(config: Config) -> str:
    return config.source or "built-in defaults (there is no sonia.toml here or in ~/.sonia)"


def _leaves(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    import json

    for key, value in table.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}.")
        elif value is not None:
            yield path, json.dumps(value, ensure_ascii=False)
