#!/bin/sh
# `make run`: the main job from end to end, on the embedded mock server. $1: the folder of the commands.
set -eu
bin=$1
out=$(mktemp)
"$bin/streamgauge" mock --port 0 --ttft 120 --ttft-dist lognormal --ttft-sd 40 --itl 8 --tokens 48 \
    --fault-429 0.02 >"$out" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null; rm -f "$out"' EXIT INT TERM
for _ in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
    grep -q http "$out" && break
    sleep 0.2
done
url=$(sed -n 's/^listening on //p' "$out")
echo "+ streamgauge run examples/prompts.jsonl --base-url $url --model mock -c 16" >&2
"$bin/streamgauge" run examples/prompts.jsonl --base-url "$url" --model mock -c 16 --fresh
echo "+ streamgauge export --to jsonl" >&2
"$bin/streamgauge" export --to jsonl
