"""Benchmarks of the study: one module a question, `python -m benchmarks` runs all."""
