"""The gateway: the edge and the turn."""

from sonia.gateway.answering import Answers, open_answers
from sonia.gateway.interface import Reply, TurnEvent, TurnRequest, Turns
from sonia.gateway.keys import Keyring
from sonia.gateway.openai import completions
from sonia.gateway.remembering import MemoryOfWhoAsks
from sonia.gateway.responses_store import PLACES, Responses
from sonia.gateway.security import Doorway, FrontDoor
from sonia.gateway.turns import open_turns

__all__ = [
    "PLACES",
    "Answers",
    "Doorway",
    "FrontDoor",
    "Keyring",
    "MemoryOfWhoAsks",
    "Reply",
    "Responses",
    "TurnEvent",
    "TurnRequest",
    "Turns",
    "completions",
    "open_answers",
    "open_turns",
]
