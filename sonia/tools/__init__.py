"""What Sonia can do: the face of the tools module."""

from sonia.tools.files import Workspace
from sonia.tools.http import routes
from sonia.tools.interface import (
    ActionError,
    ActionNotFound,
    ArgumentsInvalid,
    Asked,
    Call,
    FileChanged,
    KeyReused,
    Memo,
    NotUndoable,
    Outcome,
    Remembering,
    Sent,
    Status,
    ToolFailed,
    ToolInfo,
    ToolNotFound,
    Tools,
)
from sonia.tools.opening import open_tools
from sonia.tools.places import PLACES
from sonia.tools.service import GuardedTools

__all__ = [
    "PLACES",
    "ActionError",
    "ActionNotFound",
    "ArgumentsInvalid",
    "Asked",
    "Call",
    "FileChanged",
    "GuardedTools",
    "KeyReused",
    "Memo",
    "NotUndoable",
    "Outcome",
    "Remembering",
    "Sent",
    "Status",
    "ToolFailed",
    "ToolInfo",
    "ToolNotFound",
    "Tools",
    "Workspace",
    "open_tools",
    "routes",
]
