"""Benchmarks of the study, one module per question; `python -m benchmarks` runs all."""
