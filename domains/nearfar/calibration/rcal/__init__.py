"""Representation calibration of noisy, long-tailed labels (RCAL)."""
