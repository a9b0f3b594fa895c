"""VLA-Arena as `lewm_ros/environments/remote_server.py` serves it."""
