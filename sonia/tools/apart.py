"""The workspace holds nothing of Sonia's own: no tool could change what she is or may do."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sonia.errors import ConfigurationError

KEY = "services.openclaw.workspace"


def data_apart(workspace: Path, data: Path) -> Path:
    """The real data folder, once it is sure that neither folder is inside the other.

    Raises `ConfigurationError`.
    """
    inside, kept = workspace.resolve(), data.resolve()
    if inside == kept or inside in kept.parents or kept in inside.parents:
        raise ConfigurationError(
            f"{KEY}: {workspace} and the data folder {data} must not lie in one another, or tools "
            "could change what they may do. Choose another folder.",
            key=KEY,
        )
    return kept


def own_apart(workspace: Path, own: Iterable[Path]) -> None:
    """Look that none of Sonia's `own` files and folders is in it. Raises `ConfigurationError`."""
    inside = workspace.resolve()
    for path in own:
        real = path.resolve()
        if inside == real or inside in real.parents:
            raise ConfigurationError(
                f"{KEY}: {workspace} has {path} in it, which is Sonia's own: tools could change "
                "what she is. Choose a folder without it.",
                key=KEY,
            )
