"""Checks of a cluster's nodes, made before anything is spent on them."""
