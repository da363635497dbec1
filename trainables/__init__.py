"""The computation of one trial: uses torch, and imports nothing of ray, `study` or `analysis`.

Every experiment is a package with two modules:

    settings   the frozen dataclass `Config`, the complete, validated configuration of a cell; and
               `VERSION`, raised when the same configuration starts to give other or more numbers.
               Imports no torch, which takes at least as long as planning 100,000 cells.
    train      the function `train(config, replicates, data, report, parent)`, which returns a
               `trainables.contract.Outcome`; also `Config` and `VERSION`. If `train` has a
               parameter `checkpoint`, that is passed by name.

A user's trainable is one module with all three: `Config`, `VERSION` and `train`.
"""

import os

# Rounding in a matrix product of Intel's MKL depends on the addresses of its operands, and these
# depend on a replicate's place in its block. In MKL's strict mode it doesn't, nor does it depend on
# the number of threads, at no measurable cost. MKL reads this variable at its first product.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
