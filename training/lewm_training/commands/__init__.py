"""The subcommands of `lewm`, one module each.

A module has `HELP` (one line), `add_arguments(parser)` and `run(options)`, which returns the figures for `--json`. What
is slow to import is imported in `run`, so that `lewm --help` answers at once.
"""
