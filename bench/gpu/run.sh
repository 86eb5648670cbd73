#!/usr/bin/env bash
# Measures on an NVIDIA GPU all that the documentation calls untried there, in under 8 minutes, and
# writes bench/results/gpu-*.json:
#
#   bench/gpu/run.sh [--wheels FOLDER] [OPTIONS of python -m bench.gpu]
#
# It makes .venv-gpu, which also sees the packages of PYTHON (default: python3), above all PyTorch.
# Wheels in FOLDER (default: bench/gpu/wheelhouse), whole or as NAME.whl.part-*, are taken as they
# are; pip fetches the rest.
set -euo pipefail
cd "$(dirname "$0")/../.."
wheelhouse=bench/gpu/wheelhouse
if [ "${1:-}" = --wheels ]; then
    wheelhouse=$2
    shift 2
fi
outer=${PYTHON:-python3}
venv=.venv-gpu
python=$venv/bin/python
packages='import sysconfig; print(sysconfig.get_path("purelib"))'
"$outer" -m venv --system-site-packages "$venv"
# PYTHON may be of an environment itself, whose packages the option above does not show.
"$outer" -c "$packages" >"$("$python" -c "$packages")/outer.pth"
pip="$python -m pip --disable-pip-version-check install --quiet --retries 1"
"$python" -m bench.gpu.wheels "$wheelhouse" "$venv/wheels" | xargs --no-run-if-empty $pip --no-deps
$pip --editable '.[gpu,export,train]' transformers
exec "$python" -m bench.gpu "$@"
