"""What a trained model is worth: closed-loop evaluation, probes, pictures, the demo."""
