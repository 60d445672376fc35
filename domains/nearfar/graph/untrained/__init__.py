"""An encoder nobody trained."""
