#!/usr/bin/env python3
"""How issuances spread over time: a text histogram, and an SVG where a name is given.
   spread.py START-UNIX-SECOND ENTRIES.json [PLOT.svg]      entries as `mayfly log search --json` prints them"""
import json
import sys

BACKDATE = 10  # seconds that notBefore lies before the signing


def seconds(path):
    with open(path) as f:
        text = f.read()
    out = []
    decoder = json.JSONDecoder()
    at = 0
    while at < len(text):
        while at < len(text) and text[at].isspace():
            at += 1
        if at == len(text):
            break
        value, at = decoder.raw_decode(text, at)
        for e in value.get("entries", [value]) if isinstance(value, dict) else value:
            out.append(e["not_before"] + BACKDATE)
    return out


def svg(counts, name):
    w, h, top = 900, 260, max(counts) or 1
    step = w / len(counts)
    bars = "".join(f'<rect x="{40 + i * step:.1f}" y="{h - 30 - c / top * (h - 60):.1f}" width="{max(step - 1, 0.5):.1f}" '
                   f'height="{c / top * (h - 60):.1f}"/>' for i, c in enumerate(counts))
    marks = "".join(f'<text x="{40 + s * step:.0f}" y="{h - 10}">{s} s</text>' for s in range(0, len(counts), max(len(counts) // 10, 1)))
    with open(name, "w") as f:
        f.write(f'<svg xmlns="http://www.w3.org/2000/svg" width="{w + 60}" height="{h}" font-family="sans-serif" font-size="11">'
                f'<rect width="100%" height="100%" fill="white"/><text x="40" y="18">certificates a second (highest: {top})</text>'
                f'<g fill="#2a6f97">{bars}</g>{marks}</svg>\n')


def main():
    start = int(sys.argv[1])
    at = [t - start for t in seconds(sys.argv[2])]
    at = [t for t in at if t >= 0]
    counts = [0] * (max(at) + 1)
    for t in at:
        counts[t] += 1
    print(f"issuances: {len(at)} over {len(counts)} s, at most {max(counts)} in one second")
    for s in range(0, len(counts), 5):
        n = sum(counts[s:s + 5])
        print(f"{s:5} s {n:5} {'#' * min(n // 4 + (n % 4 > 0), 70)}")
    if len(sys.argv) > 3:
        svg(counts, sys.argv[3])


main()
