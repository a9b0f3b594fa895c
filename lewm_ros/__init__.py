"""LeWorldModel for robot arms: encode camera frames, plan in latent space, act in a closed loop."""

__version__ = "0.1.0"
