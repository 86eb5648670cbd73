"""Pre-training and fine-tuning: from recordings to checkpoints (extra `train`)."""
