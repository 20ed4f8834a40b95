"""The edge: whoever wants something of Sonia comes in here, and the turn is taken here.

What a turn is made of is in `sonia.turn`, because voice speaks of it too.
"""

from __future__ import annotations

from sonia.turn import (
    ApprovalNeeded,
    MemoryUse,
    Provenance,
    Reply,
    ResponseDelta,
    ToolAnswered,
    ToolCalled,
    ToolUse,
    TurnDone,
    TurnEvent,
    TurnRequest,
    Turns,
    TurnStarted,
)

__all__ = [
    "ApprovalNeeded",
    "MemoryUse",
    "Provenance",
    "Reply",
    "ResponseDelta",
    "ToolAnswered",
    "ToolCalled",
    "ToolUse",
    "TurnDone",
    "TurnEvent",
    "TurnRequest",
    "TurnStarted",
    "Turns",
]
