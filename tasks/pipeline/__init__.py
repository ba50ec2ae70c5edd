"""The pipeline's own facts: its record on disk, its hand-over of the spec, its trajectory."""
