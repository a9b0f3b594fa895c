"""Offline work: collect, train, evaluate, probe, and the `lewm` command."""
