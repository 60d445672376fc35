"""Bound propagation through two layers of message passing, on the edges of the graph."""
