#!/bin/sh
# Start Triton with all models of the versions that MTMH_VERSIONS names ("7 8"; none when empty), and no other.
# Usage: triton.sh MODEL_REPOSITORY [OPTION OF tritonserver]...
set -eu
models=$1
shift
# Before the first deploy the store is empty, and the file system read-only: an empty repository of our own, no model to load.
if [ -z "${MTMH_VERSIONS:-}" ] && [ ! -d "$models" ]; then
  models=/tmp/models
  mkdir -p "$models"
fi
for version in ${MTMH_VERSIONS:-}; do
  found=
  for model in "$models"/*_"$version"; do
    if [ -f "$model/config.pbtxt" ]; then
      set -- "$@" "--load-model=${model##*/}"
      found=yes
    fi
  done
  if [ -z "$found" ]; then
    echo "version $version has no models in $models: deploy it again, or name the versions that are there" >&2
    exit 1
  fi
done
# Nobody loads, configures or traces through the server: a pod's secret is known to nobody.
secret=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
closed="model-repository,model-config,shared-memory,statistics,trace,logging:mtmh-management=$secret"
set -- "$@" "--http-restricted-api=$closed" "--grpc-restricted-protocol=$closed"
exec tritonserver --model-repository="$models" --model-control-mode=explicit --disable-auto-complete-config "$@"
