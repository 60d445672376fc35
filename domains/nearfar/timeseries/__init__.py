"""Time series: representations by contrast with learnt augmentations (AutoTCL), probes, forecasts."""
