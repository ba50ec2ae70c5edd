"""The DEFT loop: state, hand-offs, choice of the best model."""
