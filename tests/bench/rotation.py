#!/usr/bin/env python3
"""How long an SVID takes to its stream: from its issuance, and from before the authority was asked for it.
   rotation.py RECEIPTS AUTHORITY.log AGENT.log     receipts of bench_streams; logs in JSON, at debug, of this one host:
   all times are of its monotonic clock. A workload's first SVID comes while hundreds of programs start at once: only
   what comes after it is a rotation."""
import json
import sys
from bisect import bisect_right
from collections import defaultdict


def marks(path, message, name, when):
    """For each workload of the bench, when it happened: microseconds, ascending."""
    at = defaultdict(list)
    with open(path) as f:
        for line in f:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if event.get("msg") == message and "/w/u" in event[name]:
                at[event[name].rsplit("/u", 1)[1]].append(when(event))
    return {uid: sorted(v) for uid, v in at.items()}


def measure(receipts, at):
    """First SVIDs and rotations, in ms: each mark's first receipt, as a push may also be for another bundle."""
    took, last = ([], []), {}
    for uid, received in receipts:
        n = bisect_right(at.get(uid, []), received)
        if n == 0 or last.get(uid) == n:
            continue
        took[uid in last].append((received - at[uid][n - 1]) / 1000)
        last[uid] = n
    return took


def say(what, v):
    v.sort()
    if v:
        print(f"{what}: {len(v)}, p50 {v[(len(v) - 1) // 2]:.1f} ms, p99 {v[(len(v) - 1) * 99 // 100]:.1f} ms, "
              f"slowest {v[-1]:.1f} ms")


def main():
    with open(sys.argv[1]) as f:
        receipts = sorted(((uid, int(us)) for uid, us, _ in map(str.split, f)), key=lambda r: r[1])
    issued = marks(sys.argv[2], "issued", "spiffe_id", lambda e: int(e["mono_us"]))
    asked = marks(sys.argv[3], "SVID", "id", lambda e: int(e["asked_mono_ms"]) * 1000)
    for since, at in (("from issuance", issued), ("from asking the authority, order included", asked)):
        first, rotations = measure(receipts, at)
        say(f"rotations to the stream, {since}", rotations)
        say(f"first SVIDs to the stream, {since}", first)


main()
