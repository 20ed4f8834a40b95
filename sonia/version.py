"""The one place that knows the version; `pyproject.toml` says the same, and a test compares."""

VERSION = "0.1.0"
