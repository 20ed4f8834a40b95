"""Ending an answer before a text: found across pieces, and which one it was."""

from __future__ import annotations

from collections.abc import Sequence


class Stops:
    """Follows an answer. `found` is the text of `stops` that was whole first, once one is."""

    def __init__(self, stops: Sequence[str]) -> None:
        self.found: str | None = None
        self._stops = tuple(stops)
        self._held = ""

    def take(self, piece: str) -> str:
        """What of this piece, and of earlier ones held back, is surely before any of them."""
        text = self._held + piece
        places = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if places:
            end, at = min(places)  # whole first: so it is the same however the answer is cut
            self.found, self._held = text[at:end], ""
            return text[:at]
        kept = max((_begun(text, stop) for stop in self._stops), default=0)
        cut = len(text) - kept
        self._held = text[cut:]
        return text[:cut]

    def end(self) -> str:
        """What was held back, when the answer ends without any of them."""
        held, self._held = self._held, ""
        return held


def _begun(text: str, stop: str) -> int:
    """How many characters of `stop` the text ends with."""
    longest = min(len(stop) - 1, len(text))
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
