"""The same training again and again with one thing changed at a time, and what becomes of it."""
