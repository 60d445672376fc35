"""Data sets of rows with classes, how they are thinned out and mislabelled, and what is left of a trained classifier.

Nothing is imported here: settings are read by the command line before torch is.
"""
