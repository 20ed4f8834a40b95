"""What a person can type: one file per command.

A command has `add(subparsers)`, which describes it and sets `run(args, config) -> exit status`.
"""
