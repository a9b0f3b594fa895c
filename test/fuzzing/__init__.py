"""Mutants of good files and folders for the importers, and what must be true of every import of one."""
