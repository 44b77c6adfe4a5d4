#!/usr/bin/env bash
# Print this machine's (or container's) NVIDIA GPUs as Spark's resource discovery wants them:
# {"name": "gpu", "addresses": ["0","1"]}. No GPU, or no nvidia-smi, is an error: an executor that asks for
# a GPU must not start without one. Used through spark.{worker,executor}.resource.gpu.discoveryScript.
set -euo pipefail

indices=$(nvidia-smi --query-gpu=index --format=csv,noheader)
addresses=$(awk '/^[0-9]+$/ { printf "%s\"%s\"", separator, $1; separator = "," }' <<<"$indices")
if [ -z "$addresses" ]; then
  echo "getGpusResources.sh: nvidia-smi lists no GPU: $indices" >&2
  exit 1
fi
printf '{"name": "gpu", "addresses": [%s]}\n' "$addresses"
