"""GRACE, GCA, ProGCL, COSTA and BGRL: what POT is added to, and has to beat."""
