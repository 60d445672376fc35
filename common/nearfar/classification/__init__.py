"""Data sets of rows with classes, how they are thinned out and mislabelled, and saved classifiers.

Nothing is imported here: settings are read by the command line before torch is.
"""
