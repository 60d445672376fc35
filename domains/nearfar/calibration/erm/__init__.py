"""Cross-entropy on labels as they are given: the floor."""
