"""Recording episodes: explorers and experts that act, and the processes that simulate side by side."""
