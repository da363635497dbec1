"""What one trial computes: torch, and nothing of ray, `study` or `analysis`.

Every experiment's module here has a frozen dataclass `Config` (the complete, validated
configuration of a cell), a `VERSION` (raised when the same configuration starts to mean other
numbers) and a function `train(config, data, report, parent)` that returns an
`trainables.contract.Outcome`. `Config` and `VERSION` may come from a module under
`trainables/settings/`, which imports no torch, so that planning is quick.
"""
