#!/usr/bin/env bash
# The first thing a new user runs (`make demo`): five nodes, images in SDFS, two networks of different cost at the same rate, a worker
# killed on the way, verified results. Exit code 0 only if all of that held.
set -euo pipefail
bin=${1:?usage: tests/demo.sh FOLDER-OF-THE-PROGRAMS}
work=$(mktemp -d "${TMPDIR:-/tmp}/idunno-demo-XXXXXX")
export IDUNNO_DIR=$work/cluster
idunno=$bin/idunno
IMAGES=${IMAGES:-1024}
RATIO_MAX=1.10

say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
run() { printf '$ idunno %s\n' "$*"; "$idunno" "$@"; }
fail() { printf '\ndemo: FAILED: %s\n' "$*" >&2; exit 1; }
cleanup() {
  local code=$?
  trap - EXIT INT TERM
  "$idunno" down -q >/dev/null 2>&1 || true
  if [ $code -ne 0 ]; then echo "the nodes' logs are kept in $work" >&2; else rm -rf "$work"; fi
  exit $code
}
trap cleanup EXIT INT TERM

# One number out of the JSON that a command prints, without another tool.
field() { sed -n "s/.*\"$1\": *\"\{0,1\}\([^\",}]*\).*/\1/p" | head -n 1; }

say "a cluster of five nodes on this machine"
run up -n 5

say "a data set: $IMAGES generated pictures (noise over gradients from a seed, 256x256 PNG), stored in SDFS with four copies"
run bench make-images "$work/images" --count "$IMAGES" --size 256 --seed 1 -q
run fs put -r "$work/images" /demo/images
run fs locate /demo/images/image-00000.png

say "two networks of the published architecture; their weights are random"
run model init resnet18 --seed 1
run model init alexnet --seed 1

say "both jobs at once, batch 16: resnet18 costs more, yet both get the same queries/s"
resnet=$(run submit --model resnet18 --data /demo/images --batch 16 | tail -n 1)
alexnet=$(run submit --model alexnet --data /demo/images --batch 16 | tail -n 1)

progress() { "$idunno" job show "$1" --json | field done; }
wait_for() { while [ "$(progress "$1")" -lt "$2" ]; do sleep 0.5; done; }
wait_for "$resnet" $((IMAGES / 4))
run stats --window 30s

say "a worker dies"
run kill-node n3
wait_for "$resnet" $((IMAGES * 3 / 4))
run status
say "three quarters done: the table that counts"
printf '$ idunno stats --window 30s\n'
table=$("$idunno" stats --window 30s)
printf '%s\n' "$table"
# What was shown is what is judged: over the 30 s, or, when both jobs have not run for so long, over the last 10 s.
ratio=$(sed -n 's/.*ratio of the rates \([0-9.]*\) .*/\1/p' <<<"$table")

say "the end of both jobs, and the proof that no query was lost or doubled"
run job wait "$resnet" --timeout 600s
run job wait "$alexnet" --timeout 600s
run job verify "$resnet"
run job verify "$alexnet"
run stats --window 30s

awk -v r="$ratio" -v max="$RATIO_MAX" 'BEGIN { exit !(r >= 1 && r <= max) }' || fail "max/min ratio of the rates is $ratio, wanted at most $RATIO_MAX"
say "the cluster goes down"
run down
say "demo: all held (max/min ratio of the rates $ratio)"
