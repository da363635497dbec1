"""Trials that share a GPU: their number follows from the memory that one needs."""
