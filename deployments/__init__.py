"""How flows are deployed."""
