#!/usr/bin/env bash
# Builds the programs with a sanitizer, runs the cluster tests with them and says whether both the tests and the sanitizer are
# content (`make asan`, `make tsan`). Exit code 0 only if every test passed and no process wrote a report.
set -euo pipefail

usage() { echo "usage: tests/sanitizers/run.sh asan|tsan [--jobs N] [--filter GTEST_FILTER]" >&2; exit 2; }
kind=${1:-}; shift || true
jobs=$(nproc)
filter='*'
while [ $# -gt 0 ]; do
  case $1 in
    --jobs) jobs=${2:?}; shift 2 ;;
    --filter) filter=${2:?}; shift 2 ;;
    *) usage ;;
  esac
done
case $kind in
  asan) preset=dev what="AddressSanitizer and UndefinedBehaviorSanitizer" ;;
  tsan) preset=tsan what="ThreadSanitizer" ;;
  *) usage ;;
esac

cd "$(dirname "$0")/../.."
here=$PWD/tests/sanitizers
build=$PWD/build-$preset
reports=$build/reports
cmake --preset "$preset" > /dev/null
cmake --build --preset "$preset" -j "$jobs" --target idunnod idunno idunno-executor cluster_test

rm -rf "$reports"
mkdir -p "$reports"
# Each process writes a file of its own, also those whose output nobody reads. An ASSERT that fails is a report, too.
common="log_path=$reports/report:log_exe_name=1"
export TSAN_OPTIONS="$common:handle_abort=1:suppressions=$here/tsan.supp:history_size=7:second_deadlock_stack=1"
export ASAN_OPTIONS="$common:handle_abort=1:detect_leaks=1:detect_stack_use_after_return=1"
ASAN_OPTIONS+=":check_initialization_order=1:strict_init_order=1"
# gcc's UBSan library leaves the file to that of ASan and writes to stderr, which nodes keep in folders that are gone at the end.
# So it aborts, and ASan reports that, with the place.
export UBSAN_OPTIONS="$common:print_stacktrace=1:halt_on_error=1:abort_on_error=1"

# As with `make test`, a test that failed may try once more: it shares the machine with everything else. A report counts in any
# try.
attempt() { "$build/bin/cluster_test" --gtest_color=no --gtest_filter="$1" 2>&1 | tee "$2" || true; }
# Tests that failed, for the next filter; a run that broke off counts as a failure of what it was at.
failed() {
  if grep -q '^\[==========\].* ran\.' "$1"; then
    sed -n 's/^\[  FAILED  \] \([A-Za-z0-9_]*\.[A-Za-z0-9_]*\).*/\1/p' "$1" | sort -u
  else
    echo "the-run-broke-off"
  fi
}
began=$(date +%s)
attempt "$filter" "$reports/tests.log"
mapfile -t first < <(failed "$reports/tests.log")
second=()
if [ ${#first[@]} -gt 0 ] && [ "${first[0]}" != the-run-broke-off ]; then
  echo "== once more: ${first[*]}"
  attempt "$(IFS=:; echo "${first[*]}")" "$reports/second.log"
  mapfile -t second < <(failed "$reports/second.log")
elif [ ${#first[@]} -gt 0 ]; then
  second=("${first[@]}")
fi
seconds=$(($(date +%s) - began))

shopt -s nullglob
written=("$reports"/report.*)
echo
if [ ${#written[@]} -gt 0 ]; then
  echo "== reports, by what they say (whole texts in $reports)"
  for file in "${written[@]}"; do
    # The first place in our sources is where to look: of an abort the summary says nothing but that.
    echo "$(grep -m1 '^SUMMARY:' "$file" || echo 'no summary'), at $(grep -om1 "$PWD/[^ ]*" "$file" || echo 'no place of ours')"
  done | sort | uniq -c | sort -rn
fi
passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$reports/tests.log")
skipped=$(sed -n 's/^\[  SKIPPED \] \([0-9]*\) test.*/\1/p' "$reports/tests.log")
late=$((${#first[@]} - ${#second[@]}))
echo "== $kind: $what, $seconds s: ${passed:-0} tests passed at once, $late at the second try," \
  "${#second[@]} failed, ${skipped:-0} skipped; ${#written[@]} processes with reports"
if [ $((${passed:-0} + late)) -eq 0 ] || [ ${#second[@]} -gt 0 ] || [ ${#written[@]} -gt 0 ]; then
  [ ${#second[@]} -eq 0 ] || echo "failed: ${second[*]}"
  echo "$kind: FAILED"
  exit 1
fi
echo "$kind: clean"
