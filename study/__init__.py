"""What to run, and where: the registry, the grid, the store of cells, and Ray Tune."""
