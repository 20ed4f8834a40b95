"""`python -m sonia` and the `sonia` command: parse, load the configuration, call.

Commands are files of `sonia.commands`; only the one that was asked for is imported. Where the
packages are missing, `sonia.bootstrap` gets them first, so that a clone needs nothing but Python.
"""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from sonia import bootstrap

NEEDED = ("msgspec", "apsw", "litestar", "structlog", "uvicorn")


def main(argv: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if sys.version_info >= bootstrap.WANTED and all(find_spec(name) for name in NEEDED):
        os.environ.pop(bootstrap.GUARD, None)
        from sonia.commands.line import run

        return run(arguments)
    if bootstrap.GUARD in os.environ:
        bootstrap.say(
            f"{sys.executable} still lacks packages that Sonia needs. "
            f"Delete {bootstrap.CHECKOUT / '.venv'} and run the same command again."
        )
        return 1
    if not (bootstrap.CHECKOUT / "requirements.lock").is_file():
        bootstrap.say(
            f"{sys.executable} lacks packages that Sonia needs, and {bootstrap.CHECKOUT} is not a "
            "clone that says which. Install Sonia again: pip install --force-reinstall sonia"
        )
        return 1
    return bootstrap.main(["--", "-m", "sonia", *arguments])


if __name__ == "__main__":
    sys.exit(main())
