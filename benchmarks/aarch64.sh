#!/bin/sh
# octopus on another processor, without having one: an arm64 Python under qemu's user emulation answers 100 requests
# with the base install, and says the same as this machine. This shows that it works there. It is no speed figure:
# emulation is many times slower than any telephone.
#
#   benchmarks/aarch64.sh [REQUESTS.tsv]     from the repository's root, on Debian or Ubuntu, x86-64, as root for apt
#
# Needs qemu-user (apt), and Debian's arm64 Python and its libraries, which are unpacked into a folder, not installed.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
requests=${1:-$here/benchmarks/independent.tsv}
work=${OCTOPUS_AARCH64:-$here/runs/aarch64}
python=${PYTHON:-python3}
mkdir -p "$work/debs" "$work/root" "$work/site"

command -v qemu-aarch64 >/dev/null || command -v qemu-aarch64-static >/dev/null || {
    echo "aarch64.sh: qemu-aarch64 is missing (apt-get install qemu-user)" >&2
    exit 1
}
qemu=$(command -v qemu-aarch64 || command -v qemu-aarch64-static)

# 1. An arm64 Python with the C libraries that the wheels need, from Debian's archive.
if [ ! -e "$work/root/.ready" ]; then
    dpkg --print-foreign-architectures | grep -qx arm64 || {
        echo "aarch64.sh: run 'dpkg --add-architecture arm64 && apt-get update' first" >&2
        exit 1
    }
    version=$(apt-cache depends python3:arm64 | sed -n 's/.*Depends: \(python3\.[0-9]*\).*/\1/p' | head -1)
    packages="libc6 libgcc-s1 libstdc++6 zlib1g libssl3 libssl3t64 libffi8 libexpat1 libsqlite3-0 libbz2-1.0 liblzma5
        libuuid1 libreadline8 libreadline8t64 libtinfo6 libncursesw6 libcrypt1 libdb5.3 libdb5.3t64 libgomp1
        $version-minimal lib$version-minimal lib$version-stdlib"
    cd "$work/debs"
    for package in $packages; do
        apt-get download "$package:arm64" >/dev/null 2>&1 || echo "aarch64.sh: no $package here, going on" >&2
    done
    for deb in ./*.deb; do dpkg-deb -x "$deb" "$work/root"; done
    [ -e "$work/root/lib" ] || ln -s usr/lib "$work/root/lib"
    [ -e "$work/root/lib/ld-linux-aarch64.so.1" ] ||
        ln -sf aarch64-linux-gnu/ld-linux-aarch64.so.1 "$work/root/lib/ld-linux-aarch64.so.1"
    touch "$work/root/.ready"
fi
arm_python=$(ls "$work"/root/usr/bin/python3.* | head -1)
version=${arm_python##*python}

# 2. The base install: octopus itself, and the aarch64 wheels of what setup.cfg names.
if [ ! -e "$work/site/.ready" ]; then
    needed=$("$python" -c "
import configparser
setup = configparser.ConfigParser()
setup.read('$here/setup.cfg', encoding='utf-8')
for line in setup['options']['install_requires'].strip().splitlines():
    print(line.split(';')[0].replace(' ', ''))")
    # The oldest onnxruntime that octopus takes: 1.32 ends in a segmentation fault under qemu 7.2.
    needed=$(echo "$needed" | sed 's/^onnxruntime>=\(.*\)/onnxruntime~=\1.0/')
    # shellcheck disable=SC2086
    "$python" -m pip install -q --target "$work/site" --only-binary :all: --implementation cp \
        --python-version "$version" --platform manylinux_2_28_aarch64 --platform manylinux_2_27_aarch64 \
        --platform manylinux_2_17_aarch64 --platform manylinux2014_aarch64 --upgrade $needed
    touch "$work/site/.ready"
fi

# 3. The same hundred requests on both.
cat >"$work/answer.py" <<'PYTHON'
import json, os, platform, re, sys
os.environ.update(OCTOPUS_PHONE=":memory:", OCTOPUS_CACHE="off", OCTOPUS_THREADS="1")
import numpy as np
from octopus import Agent
agent = Agent()
photo = np.random.default_rng(0).integers(0, 256, (120, 160, 3), dtype=np.uint8)
lines = [line.split("\t") for line in open(sys.argv[1], encoding="utf-8").read().splitlines() if "\t" in line]
texts = [re.sub(r"\[\w+:([^\]]*)\]", r"\1", cells[3]) for cells in lines][:: max(1, len(lines) // 100)][:100]
print(platform.machine(), platform.python_version(), file=sys.stderr)
for number, text in enumerate(texts):
    plan = agent.plan(text, photo if number % 2 else None)
    calls = [[call.name, dict(call.arguments), list(call.missing)] for call in plan.calls]
    print(json.dumps([text, plan.refused, calls], ensure_ascii=False), flush=True)
PYTHON

PYTHONPATH="$here" "$python" "$work/answer.py" "$requests" >"$work/here.jsonl"
PYTHONPATH="$here:$work/site" PYTHONHOME="$work/root/usr" PYTHONDONTWRITEBYTECODE=1 LC_ALL=C.UTF-8 \
    "$qemu" -L "$work/root" "$arm_python" "$work/answer.py" "$requests" >"$work/there.jsonl"

total=$(wc -l <"$work/here.jsonl")
different=$(diff "$work/here.jsonl" "$work/there.jsonl" | grep -c '^<' || true)
echo "aarch64 under emulation: $((total - different)) of $total requests lead to the same calls as on $(uname -m)"
echo "(a proof that it works there, not a measurement of speed)"
[ "$different" -eq 0 ]
