"""What sim_node is made of."""
