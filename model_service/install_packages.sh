#!/bin/sh
# Installs a lock file by its hashes into /opt/venv, with what gRPC needs where $GRPC is set, and then what the user's
# requirements.txt asks for beside it.
set -eu

if [ -s /run/ca.crt ]; then export PIP_CERT=/run/ca.crt; fi
if [ -s /run/pip.conf ]; then export PIP_CONFIG_FILE=/run/pip.conf; fi

pip() {
    /opt/tools/bin/pip --python /opt/venv --cache-dir /var/cache/pip --disable-pip-version-check "$@"
}

set -- -r "$1"
if [ -n "${GRPC-}" ]; then set -- "$@" -r requirements-grpc.lock; fi
pip install --require-hashes --only-binary :all: "$@"
if [ -s requirements.txt ]; then
    pip freeze > locked.txt
    pip install -r requirements.txt -c locked.txt
fi
pip check

# The ONNX Runtimes of the CPU and of the GPU write into one directory, and pip sees no conflict.
runtimes=$(grep --files-with-matches '^onnxruntime/__init__\.py,' /opt/venv/lib/python3*/site-packages/*.dist-info/RECORD)
if [ "$(echo "$runtimes" | wc -l)" -ne 1 ]; then
    echo "ERROR: requirements.txt brings a second ONNX Runtime, which overwrites the server's:" "$runtimes" >&2
    echo "Fix: remove it from requirements.txt, or the package there that asks for it" >&2
    exit 1
fi
