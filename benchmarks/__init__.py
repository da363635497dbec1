"""What the study is measured against: one module a question, `python -m benchmarks` for all."""
