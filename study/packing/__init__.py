"""GPU sharing: how many trials run on a GPU follows from the memory that each needs."""
