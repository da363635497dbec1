"""Classifiers that learn from few labels, from an encoder or from scratch."""
