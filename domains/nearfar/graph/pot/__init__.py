"""POT: provable training for graph contrastive learning (Yu et al., NeurIPS 2023)."""
