"""Benchmarks that live in a Python of their own: each package here is imported there, and needs none of this project.

The folder is put on that Python's path, so nothing in it may have the name of a package that is installed there.
"""
