"""Reading a shell command: what it runs, and whether all of it only looks."""

from sonia.tools.shell.grammar import Script, Step
from sonia.tools.shell.reading import only_reads, programs

__all__ = ["Script", "Step", "only_reads", "programs"]
