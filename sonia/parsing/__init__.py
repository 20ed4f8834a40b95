"""Text out of files, in a process of its own. Importing this loads no parser."""

from sonia.parsing.interface import (
    Chunk,
    Limits,
    NotReadable,
    Parsed,
    ReadingFailed,
    Wish,
)

__all__ = ["Chunk", "Limits", "NotReadable", "Parsed", "ReadingFailed", "Wish"]
