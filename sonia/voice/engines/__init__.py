"""Engines behind the protocols of `sonia.voice.speech`, one file each."""
