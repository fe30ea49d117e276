#!/bin/sh
# The kernels under AddressSanitizer and UndefinedBehaviorSanitizer: the programs of this folder without torch, then
# the CPU library itself under the operator tests. Needs g++ with libasan, cmake, ninja; torch for the second part.
#   csrc/tests/sanitize.sh [FOLDER FOR THE BUILDS [programs|library]]
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
work=${1:-$root/build/sanitize}
part=${2:-both}
sanitizers=address,undefined
# torch and Python leak on purpose at exit; the fibers of cuda_on_cpu.h have their own stacks.
export ASAN_OPTIONS=detect_leaks=0:detect_stack_use_after_return=0 UBSAN_OPTIONS=print_stacktrace=1 OMP_NUM_THREADS=2

if [ "$part" != library ]; then
  cmake -S "$root/csrc/tests" -B "$work/programs" -G Ninja -DCVHPE_SANITIZE=$sanitizers >/dev/null
  cmake --build "$work/programs"
  ctest --test-dir "$work/programs" --output-on-failure
fi
if [ "$part" != programs ]; then
  cmake -S "$root" -B "$work/library" -G Ninja -DCVHPE_SANITIZE=$sanitizers -DCVHPE_OUTPUT="$work/out" \
    -DPython_EXECUTABLE="$(command -v python)" >/dev/null
  cmake --build "$work/library"
  cd "$root"
  LD_PRELOAD="$(g++ -print-file-name=libasan.so) $(g++ -print-file-name=libstdc++.so)" CVHPE_LIBRARY_DIR="$work/out" \
    CVHPE_OPS=kernels python -m pytest -p no:cacheprovider tests/ops -k "not compile and not registration and not extension_loader"
fi
