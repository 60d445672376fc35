"""Subclass-balancing contrastive learning (SBCL, Hou et al., ICCV 2023)."""
