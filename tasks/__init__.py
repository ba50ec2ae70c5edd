"""The stages: one folder each, and the few pieces that they share."""

import os

# OpenMP threads spin while they wait. With another busy process on the machine that slows training down
# forty-fold (measured on two cores); waiting passively costs nothing. Must be set before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
