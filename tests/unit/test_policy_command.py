"""`sonia policy test` takes a call as people write it."""

from __future__ import annotations

import pytest

from sonia.commands.policy import read_call
from sonia.errors import InvalidRequest


@pytest.mark.parametrize(
    ("text", "tool", "arguments"),
    [
        ("rm -rf build", "shell.run", {"command": "rm -rf build"}),
        ("ls", "shell.run", {"command": "ls"}),
        ("./run.sh now", "shell.run", {"command": "./run.sh now"}),
        ("file.read path=a.txt", "file.read", {"path": "a.txt"}),
        (
            "file.write path='a b.txt' content=\"x=1 y\"",
            "file.write",
            {"path": "a b.txt", "content": "x=1 y"},
        ),
        ('web.fetch {"url": "http://a.example/"}', "web.fetch", {"url": "http://a.example/"}),
        ("system.info", "system.info", {}),
    ],
)
def test_a_call_is_a_shell_command_or_a_tool_with_arguments(
    text: str, tool: str, arguments: dict[str, str]
) -> None:
    assert read_call(text) == (tool, arguments)


@pytest.mark.parametrize("text", ["file.read {", "file.read {1}"])
def test_arguments_that_are_no_json_are_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        read_call(text)
