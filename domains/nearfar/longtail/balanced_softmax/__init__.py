"""Balanced softmax: one line against long tails."""
