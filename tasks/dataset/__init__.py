"""Data sets: ChangeNet CSVs, assembly, leakage, importers, the sample workspace."""
