"""The objectives known by name: what they are, who can have them, and how they compare."""
