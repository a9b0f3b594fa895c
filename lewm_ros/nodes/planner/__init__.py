"""What planner_node is made of."""
