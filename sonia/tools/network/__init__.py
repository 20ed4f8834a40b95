"""The one way out: a client that looks at each address where it is dialled."""

from sonia.tools.network.client import Fetched, GuardedClient
from sonia.tools.network.reach import EgressDenied, Reach
from sonia.tools.network.receipt import Receipt

__all__ = ["EgressDenied", "Fetched", "GuardedClient", "Reach", "Receipt"]
