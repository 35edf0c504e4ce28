"""What is kept: checkpoints in a private directory, as packs of chunks and a manifest."""
