"""Offline work, by job: `data`, `collect`, `learn`, `judge`, `bench`, and the `lewm` command in `commands`."""
