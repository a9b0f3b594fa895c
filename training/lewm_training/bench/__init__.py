"""What `lewm bench` measures, one module per subject."""
