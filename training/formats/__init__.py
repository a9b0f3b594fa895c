"""Files of other projects, read and written: model weights, datasets, recordings."""
