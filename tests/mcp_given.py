"""A small MCP server on pipes whose tools a file describes, so that a test can change them.

`python -m tests.mcp_given FILE`: FILE is the JSON list for `tools/list`. The tool `die` ends it,
`try` tells how it went to read, write or dial what it was given.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any


def main(listing: Path) -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message["method"], message.get("params", {}), listing)
        told = {"jsonrpc": "2.0", "id": message["id"], **result}
        print(json.dumps(told), flush=True)


def answer(method: str, params: dict[str, Any], listing: Path) -> dict[str, Any]:
    if method == "initialize":
        version = params["protocolVersion"]
        return {"result": {"protocolVersion": version, "capabilities": {"tools": {}}}}
    if method == "tools/list":
        return {"result": {"tools": json.loads(listing.read_text())}}
    if method == "tools/call":
        if params["name"] == "die":
            print("I had enough", file=sys.stderr, flush=True)
            raise SystemExit(3)
        if params["name"] == "try":
            text = tried(params["arguments"])
            return {"result": {"content": [{"type": "text", "text": text}]}}
        content = [{"type": "text", "text": f"did {params['name']}"}]
        return {"result": {"content": content, "isError": params["name"] == "fail"}}
    return {"error": {"code": -32601, "message": "no such method"}}


def tried(what: dict[str, Any]) -> str:
    """The text read, or `done`, or the name of the error."""
    try:
        if "read" in what:
            return Path(what["read"]).read_text()
        if "write" in what:
            Path(what["write"]).write_text("written")
        if "dial" in what:
            socket.create_connection(("127.0.0.1", what["dial"]), timeout=30).close()
        if "of" in what:
            return os.environ.get(what["of"], "")
    except OSError as error:
        return type(error).__name__
    return "done"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
