"""The computation of one trial: torch, and nothing of ray, `study` or `analysis`.

Every experiment's module here has a frozen dataclass `Config` (the complete, validated
configuration of a cell), a `VERSION` (raised when the same configuration starts to mean other
numbers) and a function `train(config, replicates, data, report, parent)` that
returns a `trainables.contract.Outcome`. A `train` with parameters `checkpoint` or `score_after`
gets these by name. `Config` and `VERSION` may come from a module under `trainables/settings/`,
which imports no torch, so that planning is quick.
"""

import os

# A matrix product of Intel's MKL rounds by the addresses of its operands, and those by a
# replicate's place in its block. Strict reproducibility of MKL ends that, also across numbers of
# threads, and costs nothing that can be measured. MKL reads this at its first product.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
