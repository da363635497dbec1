"""The computation of one trial: torch, and nothing of ray, `study` or `analysis`.

Every experiment is a package with two modules:

    settings   a frozen dataclass `Config`, the complete, validated configuration of a cell; and a
               `VERSION`, raised when the same configuration starts to mean other numbers. Imports
               no torch, so that a plan of 100,000 cells takes no longer than that import.
    train      the function `train(config, replicates, data, report, parent)`, which returns a
               `trainables.contract.Outcome`; also `Config` and `VERSION`. With parameters
               `checkpoint` or `score_after`, it gets these by name.

A user's trainable is one module that has all three.
"""

import os

# A matrix product of Intel's MKL rounds by the addresses of its operands, and those by a
# replicate's place in its block. Strict reproducibility of MKL ends that, also across numbers of
# threads, and costs nothing that can be measured. MKL reads this at its first product.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
