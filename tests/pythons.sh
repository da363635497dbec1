#!/usr/bin/env bash
# `make study` with the smallest study, in a fresh copy of the checkout, once for each Python 3.11 to
# 3.14 on the PATH or under ~/.pyenv. Each takes minutes, and 7 GB while it lasts. One line each;
# exit code 1 if one failed. Arguments are interpreters to take instead.
set -euo pipefail
unset CDPATH
cd -- "$(dirname -- "$0")/.."

pythons=("$@")
if [ $# -eq 0 ]; then
  for minor in 11 12 13 14; do
    for python in "$(command -v "python3.$minor" || true)" ~/.pyenv/versions/"3.$minor".*/bin/python; do
      # pyenv puts commands on the PATH for versions that aren't chosen, and these fail.
      if [ -n "$python" ] && "$python" -c 'import ensurepip' 2>/dev/null; then
        pythons+=("$python")
        continue 2
      fi
    done
  done
fi

failed=0
folder=
trap 'rm -rf "$folder"; exit 130' INT TERM
for python in "${pythons[@]}"; do
  folder=$(mktemp -d)
  mkdir "$folder/checkout"
  tar --create --exclude-vcs --exclude-vcs-ignores . | tar --extract --directory "$folder/checkout"
  version=$("$python" -c 'import platform; print(platform.python_version())') || version=unknown
  SECONDS=0
  if make -C "$folder/checkout" study PYTHON="$python" PRESET=smoke OUT=results \
    OPTIONS='--dataset digits' >"$folder/log" 2>&1; then
    echo "Python $version ($python): the study ran, $SECONDS s with the installation"
    rm -rf "$folder"
  else
    failed=1
    echo "Python $version ($python): failed; see $folder/log"
    rm -rf "$folder/checkout/.venv"
  fi
done
exit $failed
