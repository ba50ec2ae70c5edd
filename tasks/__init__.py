"""The stages: one folder each, and the few pieces that they share."""
