#!/usr/bin/env python3
"""Waits until each of N agents is ready, and says after how many milliseconds the last one was.

    ready.py FOLDER N SINCE_MS TIMES

FOLDER/herd<n>/http.sock answers /ready, and FOLDER/herd<n>/log has "serving" TIMES times: once more for each
execution. SINCE_MS is the wall clock's. One process asks all of them in turn: a curl for each question would cost the
machine more than the agents do.
"""
import socket
import sys
import time

folder, agents, since, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])


def is_ready(n):
    try:
        with open(f"{folder}/herd{n}/log", "rb") as log:
            if log.read().count(b'"serving"') < times:
                return False
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(5)
            s.connect(f"{folder}/herd{n}/http.sock")
            s.sendall(b"GET /ready HTTP/1.0\r\n\r\n")
            return s.recv(64).split(b" ")[1:2] == [b"200"]
    except OSError:
        return False


def ms():
    return time.time_ns() // 1_000_000 - since


waiting = set(range(1, agents + 1))
while waiting:
    if ms() > 60000:
        sys.exit(f"agents {sorted(waiting)[:5]} and so on are not ready after 60 s")
    waiting = {n for n in waiting if not is_ready(n)}
    time.sleep(0.05)
print(ms())
