#!/usr/bin/env bash
# Breaks one rule at a time, on purpose, in a copy of the sources, and shows that some test notices.
#
#   tests/sim/mutations/run.sh [--build FOLDER] [--jobs N] [--limit SECONDS] [--only PROGRAM] [name...]
#   tests/sim/mutations/run.sh --check      only that each can still be applied: a test of `make test`
#
# Each file *.mut is a piece of bash that says what is broken and how:
#   what      one line for people
#   file      the source file, from the root of the project
#   from, to  the text to be replaced, once, and by what. When `from` is not there (any more), the run fails loudly.
#   tests     commands, from the folder of the programs; the first that fails has caught the mutation. Only their programs are built,
#             one when it is its turn, so the natural catcher comes first.
# A second place is broken by file2, from2, to2. Exit code 0 only when all were caught.
set -u -o pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../../.." && pwd)
build=$root/build-mutations
jobs=$(nproc)
limit=120 # seconds that a test may take to notice
names=() only='' check=''
while (($#)); do
  case $1 in
    --build) build=$2; shift 2 ;;
    --jobs) jobs=$2; shift 2 ;;
    --limit) limit=$2; shift 2 ;;
    --only) only=$2; shift 2 ;; # of the tests only those of this program, where there are some
    --check) check=1; shift ;;
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
  cmake -S "$source_copy" -B "$objects" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DBUILD_TESTING=ON \
    -DCMAKE_CXX_FLAGS_RELWITHDEBINFO="-O1 -g1 -DNDEBUG" >"$build/cmake.log" 2>&1 ||
    { tail -20 "$build/cmake.log"; exit 2; }
}

export CCACHE_BASEDIR=$build CCACHE_NOHASHDIR=1
compile() { ninja -C "$objects" -j "$jobs" "$@" >"$build/build.log" 2>&1; }

run_test() { (cd "$objects/bin" && ulimit -c 0 && timeout "$limit" bash -c "./$1") >"$build/test.log" 2>&1; }

# once FOLDER FILE TEXT: whether it is there in exactly one place.
once() {
  local text rest
  text=$(<"$1/$2")
  [[ $text == *"$3"* ]] || { echo "the text is not in $2 any more:"; echo "  $3"; return 1; }
  rest=${text#*"$3"}
  [[ $rest != *"$3"* ]] || { echo "the text is in $2 more than once:"; echo "  $3"; return 1; }
}

# replace FILE FROM TO: exactly one place.
replace() {
  local path=$source_copy/$1 text
  once "$source_copy" "$1" "$2" || return 1
  text=$(<"$path")
  printf '%s\n' "${text%%"$2"*}$3${text#*"$2"}" >"$path"
}

restore() { cp "$root/$1" "$source_copy/$1"; }

# The simulator with so many seeds (SEEDS=n instead); it stops at the first that breaks a rule.
sim() { echo "idunno_sim --seeds ${SEEDS:-$1} --jobs $jobs"; }
# A binary of unit tests (and a filter): stops at the first that fails.
unit() { echo "$1 --gtest_fail_fast --gtest_brief=1${2:+ --gtest_filter='$2'}"; }

load() {
  what='' file='' from='' to='' file2='' from2='' to2='' tests=()
  # shellcheck disable=SC1090
  source "$here/$1.mut"
  local test kept=()
  for test in "${tests[@]}"; do
    [[ $test != "$only "* ]] || kept+=("$test")
  done
  ((!${#kept[@]})) || tests=("${kept[@]}")
}

((${#names[@]})) || for path in "$here"/*.mut; do names+=("$(basename "$path" .mut)"); done
if [[ -n $check ]]; then
  stale=0
  for name in "${names[@]}"; do
    load "$name"
    if ! { once "$root" "$file" "$from" && { [[ -z $file2 ]] || once "$root" "$file2" "$from2"; }; }; then
      echo "  ($name: $what)"
      stale=$((stale + 1))
    fi
  done
  echo "$((${#names[@]} - stale)) of ${#names[@]} mutations can be applied"
  exit $((stale > 0))
fi
mkdir -p "$build"
prepare

# With nothing broken all of these tests must pass, or being caught means nothing. Of the simulator only the longest run is needed.
all_tests=()
for name in "${names[@]}"; do
  load "$name"
  all_tests+=("${tests[@]}")
done
mapfile -t all_tests < <(printf '%s\n' "${all_tests[@]}" | sort -u | { grep -v '^idunno_sim'; true; }
  printf '%s\n' "${all_tests[@]}" | { grep '^idunno_sim'; true; } | sort -t' ' -k3,3n | tail -1)
mapfile -t all_targets < <(printf '%s\n' "${all_tests[@]%% *}" | sort -u)
start=$SECONDS
compile "${all_targets[@]}" || { tail -20 "$build/build.log"; exit 2; }
built=$((SECONDS - start))
for test in "${all_tests[@]}"; do
  run_test "$test" || { echo "fails with nothing broken: $test"; tail -5 "$build/test.log"; exit 2; }
done
echo "with nothing broken all ${#all_tests[@]} tests pass (built in $built s, run in $((SECONDS - start - built)) s);" \
  "breaking ${#names[@]} rules, one at a time"

# Sets `caught` to the test that noticed and `why` to its first words, or leaves `caught` empty.
break_and_look() {
  caught='' why='NOT CAUGHT'
  local test target
  if ! why=$(replace "$file" "$from" "$to" && { [[ -z $file2 ]] || replace "$file2" "$from2" "$to2"; }); then
    why="NOT APPLIED: $why"
    return
  fi
  why='NOT CAUGHT'
  for test in "${tests[@]}"; do
    target=${test%% *}
    if ! compile "$target"; then
      why="NOT APPLIED: it does not compile: $(grep -m1 error "$build/build.log")"
      return
    fi
    run_test "$test"
    local code=$?
    if ((code == 124)); then # slow is not caught
      why="NOT CAUGHT within $limit s by $target"
    elif ((code != 0)); then
      caught=$target
      why=$(grep -m1 -A1 -E '^SEED=|^\[  FAILED|invariant broken|ASSERT' "$build/test.log" | tr '\n' ' ' | cut -c1-150)
      return
    fi
  done
}

printf '%-26s %-12s %6s  %s\n' mutation 'caught by' time 'what it said'
missed=0
begin=$SECONDS
for name in "${names[@]}"; do
  load "$name"
  start=$SECONDS
  break_and_look
  restore "$file"
  [[ -z $file2 ]] || restore "$file2"
  printf '%-26s %-12s %4d s  %s\n' "$name" "${caught:--}" $((SECONDS - start)) "$why"
  [[ -n $caught ]] || { missed=$((missed + 1)); echo "    broken was: $what"; }
done
echo "$((${#names[@]} - missed)) of ${#names[@]} mutations were caught, in $((SECONDS - begin)) s"
((missed == 0))
