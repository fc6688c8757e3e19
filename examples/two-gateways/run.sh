#!/bin/sh
# Two gateways of one image: a copy reads from the first, which is killed in the middle, and goes on
# at the second.
#
#   sh examples/two-gateways/run.sh disk.img
#
# The client names both gateways in the order in which it tries them. It only reads, so any gateway
# will do. A client that also writes needs a fence between the gateways, which images of Ceph have:
#
#   farbus serve 'disk=rbd:rbd/disk?standby=1' --listen nbd://0.0.0.0     on both gateways
#   farbus run --drive nbd://gateway1,gateway2/disk                       the client
#
# docs/failover.md has the rules, docs/scale.md many gateways.
set -eu
image=$1
folder=$(mktemp -d)
trap 'farbus stop two >/dev/null 2>&1 || true; rm -rf "$folder"' EXIT

# Port 0 takes a free one. The first gateway is slow, so that the copy takes a while.
serve="farbus serve --read-only --listen nbd://127.0.0.1:0 --detach"
first=$($serve "disk=$image,rate=1M" --server-name one | tail -n 1)
second=$($serve "disk=$image" --server-name two | tail -n 1)
echo "gateways: $first and $second"

host() { echo "$1" | sed 's|^nbd://||; s|/.*||'; }
farbus copy "nbd://$(host "$first"),$(host "$second")/disk" "$folder/copy.img" --quiet &
copy=$!

until farbus status one --json | grep -q '"bytesRead":[1-9]'; do
  kill -0 $copy
done
kill -9 "$(farbus ps --json | sed 's/.*"name":"one","pid":\([0-9]*\).*/\1/')"
echo 'the first gateway is killed'

wait $copy
cmp "$image" "$folder/copy.img"
echo 'the copy is complete, and equals the image'
