"""Engines behind `Transcriber` and `Speaker`, one file each."""
