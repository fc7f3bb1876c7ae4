#!/usr/bin/env bash
# Breaks one rule at a time, on purpose, in a copy of the sources, and shows that some test notices.
#
#   tests/sim/mutations/run.sh [--build FOLDER] [--jobs N] [name...]
#
# Each file *.mut is a piece of bash that says what is broken and how:
#   what      one line for people
#   file      the source file, from the root of the project
#   from, to  the text to be replaced, once, and by what. When `from` is not there (any more), the run fails loudly.
#   tests     commands, from the folder of the programs; the first that fails has caught the mutation
#   targets   what to build for them (default: idunno_sim)
# A second place is broken by file2, from2, to2. Exit code 0 only when all were caught.
set -u -o pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=$root/build-mutations
jobs=$(nproc)
limit=180 # seconds that a test may take to notice
names=()
while (($#)); do
  case $1 in
    --build) build=$2; shift 2 ;;
    --jobs) jobs=$2; shift 2 ;;
    --limit) limit=$2; shift 2 ;;
    -*) echo "run.sh: unknown option $1"; exit 2 ;;
    *) names+=("$1"); shift ;;
  esac
done
source_copy=$build/source
objects=$build/objects

prepare() {
  mkdir -p "$source_copy"
  # Only what changed, so that what is built already stays.
  (cd "$root" && find CMakeLists.txt CMakePresets.json bus storage nodes cli tests configs -type f) | while read -r path; do
    if ! cmp -s "$root/$path" "$source_copy/$path"; then
      mkdir -p "$source_copy/$(dirname "$path")" && cp "$root/$path" "$source_copy/$path"
    fi
  done
  cmake -S "$source_copy" -B "$objects" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=ON >"$build/cmake.log" 2>&1 ||
    { tail -20 "$build/cmake.log"; exit 2; }
}

export CCACHE_BASEDIR=$build CCACHE_NOHASHDIR=1
compile() { ninja -C "$objects" -j "$jobs" "$@" >"$build/build.log" 2>&1; }

run_test() { (cd "$objects/bin" && ulimit -c 0 && timeout "$limit" bash -c "./$1") >"$build/test.log" 2>&1; }

# replace FILE FROM TO: exactly one place.
replace() {
  local path=$source_copy/$1 text rest
  text=$(<"$path")
  [[ $text == *"$2"* ]] || { echo "the text is not in $1 any more:"; echo "  $2"; return 1; }
  rest=${text#*"$2"}
  [[ $rest != *"$2"* ]] || { echo "the text is in $1 more than once:"; echo "  $2"; return 1; }
  printf '%s\n' "${text%%"$2"*}$3$rest" >"$path"
}

restore() { cp "$root/$1" "$source_copy/$1"; }

# The simulator with so many seeds (SEEDS=n instead); it stops at the first that breaks a rule.
sim() { echo "idunno_sim --seeds ${SEEDS:-$1} --jobs $jobs"; }

load() {
  what='' file='' from='' to='' file2='' from2='' to2='' tests=() targets=(idunno_sim)
  # shellcheck disable=SC1090
  source "$here/$1.mut"
}

((${#names[@]})) || for path in "$here"/*.mut; do names+=("$(basename "$path" .mut)"); done
mkdir -p "$build"
prepare

# With nothing broken all of these tests must pass, or being caught means nothing.
all_targets=() all_tests=()
for name in "${names[@]}"; do
  load "$name"
  all_targets+=("${targets[@]}") all_tests+=("${tests[@]}")
done
mapfile -t all_targets < <(printf '%s\n' "${all_targets[@]}" | sort -u)
mapfile -t all_tests < <(printf '%s\n' "${all_tests[@]}" | sort -u)
compile "${all_targets[@]}" || { tail -20 "$build/build.log"; exit 2; }
for test in "${all_tests[@]}"; do
  run_test "$test" || { echo "fails with nothing broken: $test"; tail -5 "$build/test.log"; exit 2; }
done
echo "with nothing broken all ${#all_tests[@]} tests pass; breaking ${#names[@]} rules, one at a time"

missed=0
for name in "${names[@]}"; do
  load "$name"
  start=$SECONDS
  result=''
  if ! problem=$(replace "$file" "$from" "$to" && { [[ -z $file2 ]] || replace "$file2" "$from2" "$to2"; }); then
    result="NOT APPLIED: $problem"
  elif ! compile "${targets[@]}"; then
    result="NOT APPLIED: it does not compile: $(grep -m1 error "$build/build.log")"
  else
    for test in "${tests[@]}"; do
      if ! run_test "$test"; then
        why=$(grep -m1 -A1 -E '^SEED=|^\[  FAILED|invariant broken' "$build/test.log" | tr '\n' ' ')
        result="caught by $test in $((SECONDS - start)) s: $why"
        break
      fi
    done
  fi
  restore "$file"
  [[ -z $file2 ]] || restore "$file2"
  if [[ $result == caught* ]]; then
    printf '%-28s %s\n' "$name" "$result"
  else
    missed=$((missed + 1))
    printf '%-28s %s\n' "$name" "${result:-NOT CAUGHT} ($what)"
  fi
done
echo "$((${#names[@]} - missed)) of ${#names[@]} mutations were caught"
((missed == 0))
