"""Methods without weights to train: one file each."""
