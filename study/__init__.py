"""Hyperparameter studies of autoencoders on Ray Tune: what to compute, and where."""
