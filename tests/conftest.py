"""What holds for every test: the same examples each time, and two processes for all of them."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

# A test that fails by chance stops everybody. New examples are looked for by hand, with
# `--hypothesis-profile=default`.
settings.register_profile("sonia", deadline=None, derandomize=True)
settings.load_profile("sonia")
# The servers and commands that tests start use what earlier ones have compiled.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


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
