"""Processes beside the nodes, by which `lewm` drives goals, measures and records."""
