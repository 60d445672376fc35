"""Cross-entropy on a long tail: the floor."""
