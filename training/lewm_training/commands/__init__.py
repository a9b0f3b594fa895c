"""The subcommands of `lewm`, one module each.

A module has `HELP` (one line), `add_arguments(parser)` and `run(options)`, which returns the figures for `--json`. It
may have `summary(figures)`, the text that is printed; `draw(options, figures)`, called once the figures are printed and
written; and `RESUMABLE = True`, if the same command goes on where it was interrupted. What is slow to import is
imported in `run`, so that `lewm --help` answers at once.
"""
