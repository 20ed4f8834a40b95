"""What holds for every test: the same examples each time, and two processes for all of them."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import settings

# A test that fails by chance stops everybody. New examples are looked for by hand, with
# `--hypothesis-profile=default`.
settings.register_profile("sonia", deadline=None, derandomize=True)
settings.load_profile("sonia")
# The servers and commands that tests start use what earlier ones have compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


# Models compute with as many threads as there are cores: two at once are slower than in turn.
WITH_MODELS = (
    "tests/e2e/",
    "tests/integration/test_event_loop.py",
    "tests/integration/test_kokoro_graph.py",
    "tests/integration/test_router_local.py",
    "tests/integration/test_router_models.py",
)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite in two processes, file by file in order; anything less in this one.

    `-n 0` keeps the whole in one process, too.
    """
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if whole and config.option.numprocesses is None and not hasattr(config, "workerinput"):
        os.environ["PYTHONHASHSEED"] = "0"  # both have to find the same tests
        config.option.numprocesses = 2
        config.option.dist = "loadfile"
        config.option.loadscopereorder = False


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole files, and those with models to the same process."""
    from xdist.scheduler import LoadFileScheduling

    class ByFile(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return "models" if nodeid.startswith(WITH_MODELS) else super()._split_scope(nodeid)

    return ByFile(config, log) if config.option.dist == "loadfile" else None
