"""Encoder and linear head trained together on labels."""
