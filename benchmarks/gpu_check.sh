#!/usr/bin/env bash
# All checks that need a GPU, in one run of under eight minutes: PyTorch, no network, no Ray. The most
# important parts come first; each runs in a process of its own and for a limited time. A value is
# printed as soon as it is measured, and goes to gpu_check.json (in $OUT, if that is set); the table
# of the figures comes last.
#
#   benchmarks/gpu_check.sh                       # DATA=DIR: a folder with full MNIST
#   benchmarks/gpu_check.sh --only tests memory   # some parts
#   benchmarks/gpu_check.sh --device cpu --tiny   # a rehearsal
#
# The tests need pytest and mlxtend. If one isn't installed and there is no network, bring wheels in a
# folder WHEELS: pip download --no-deps -d WHEELS mlxtend
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
if [ -n "${WHEELS:-}" ]; then
  site=$(mktemp -d)
  if "$python" -m pip install --quiet --no-index --no-deps --target "$site" "$WHEELS"/*.whl; then
    export PYTHONPATH="$site${PYTHONPATH:+:$PYTHONPATH}"
  else
    echo "the wheels in $WHEELS can't be installed"
  fi
fi
nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv 2>/dev/null || true
exec timeout 470 "$python" -m benchmarks.gpu_check \
  --out "${OUT:-.}/gpu_check.json" ${DATA:+--data-dir "$DATA"} "$@"
