"""Gap analysis: threshold sweep, weakness ranking, lighting expansion, yes/no answers."""
