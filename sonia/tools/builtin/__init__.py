"""The tools that come with Sonia, one file each."""

from __future__ import annotations

from typing import Any

from sonia.tools.builtin.browser_open import BrowserOpen
from sonia.tools.builtin.file_delete import FileDelete
from sonia.tools.builtin.file_list import FileList
from sonia.tools.builtin.file_read import FileRead
from sonia.tools.builtin.file_search import FileSearch
from sonia.tools.builtin.file_write import FileWrite
from sonia.tools.builtin.math_evaluate import MathEvaluate
from sonia.tools.builtin.notification_send import NotificationSend
from sonia.tools.builtin.process_list import ProcessList
from sonia.tools.builtin.shell_run import ShellRun
from sonia.tools.builtin.system_info import SystemInfo
from sonia.tools.builtin.web_fetch import WebFetch
from sonia.tools.builtin.web_search import WebSearch
from sonia.tools.files import Workspace
from sonia.tools.network import GuardedClient
from sonia.tools.sandbox import Sandbox
from sonia.tools.tool import Tool
from sonia.tools.trash import Trash


def builtin_tools(
    workspace: Workspace, sandbox: Sandbox, client: GuardedClient, trash: Trash, search_url: str
) -> tuple[Tool[Any], ...]:
    """All of them, for one workspace and one way out."""
    return (
        FileRead(workspace),
        FileList(workspace),
        FileSearch(workspace),
        FileWrite(workspace),
        FileDelete(trash),
        ShellRun(sandbox, workspace),
        SystemInfo(workspace.root),
        MathEvaluate(),
        ProcessList(),
        NotificationSend(),
        BrowserOpen(),
        WebFetch(client),
        WebSearch(client, search_url),
    )
