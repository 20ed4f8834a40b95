"""Tools of other programs, over the Model Context Protocol."""

from sonia.tools.mcp.room import Around
from sonia.tools.mcp.servers import Servers, open_servers

__all__ = ["Around", "Servers", "open_servers"]
