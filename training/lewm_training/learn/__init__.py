"""Training: the objective, the trainer, and what is trained on a frozen model."""
