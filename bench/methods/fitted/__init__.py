"""Methods that learn from their training images in closed form: one file each."""
