"""AutoTCL: views by a learnt mask and a learnt gain (Zheng et al., ICLR 2024)."""
