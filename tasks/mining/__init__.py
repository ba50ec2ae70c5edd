"""Mining: pool preparation, exact neighbours, similarity floor, history ledger."""
