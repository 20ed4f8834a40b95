"""Tools of other programs, over the Model Context Protocol."""

from sonia.tools.mcp.servers import Servers, open_servers

__all__ = ["Servers", "open_servers"]
