"""The study: its registry, its grid, its store of cells, and Ray Tune."""
