"""ROS messages to arrays, live ones and recorded ones alike: only fields are read, no message class is imported."""
