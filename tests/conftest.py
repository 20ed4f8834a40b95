"""What holds for every test: the same examples each time, and no clock over any of them."""

from __future__ import annotations

from hypothesis import settings

# A test that fails by chance stops everybody. New examples are looked for by hand, with
# `--hypothesis-profile=default`.
settings.register_profile("sonia", deadline=None, derandomize=True)
settings.load_profile("sonia")
