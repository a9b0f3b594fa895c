"""What view_node is made of."""
