"""Losses and importance weights of the base models: GRACE, GCA, ProGCL, COSTA, BGRL."""
