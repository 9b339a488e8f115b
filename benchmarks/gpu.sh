#!/usr/bin/env bash
# Everything that wants a GPU, in less than eight minutes: tests, conformance, inference beside others, training steps.
#     pip install -e ".[torch,train,test]" transformers==4.57.6   # torchaudio and the extra flax with jax[cuda]: optional
#     benchmarks/gpu.sh [gpu.json]
exec "${PYTHON:-python}" "$(dirname "$0")/gpu.py" "$@"
