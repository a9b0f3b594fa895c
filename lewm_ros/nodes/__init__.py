"""ROS 2 nodes and message conversion: the only folder that imports rclpy."""
