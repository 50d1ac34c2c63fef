#!/usr/bin/env python3
"""load.py ECHO-PORT PORT: an echo server on one, and a load on the other that must come back from it; each request a
connection of its own, so a handshake. Until standard input ends; then says how many, and fails if one did."""
import select
import socket
import socketserver
import sys
import threading


class Echo(socketserver.BaseRequestHandler):
    def handle(self):
        while data := self.request.recv(65536):
            self.request.sendall(data)


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128


def once(n):
    words = b"request %d" % n
    with socket.create_connection(("127.0.0.1", int(sys.argv[2])), timeout=60) as s:
        s.sendall(words)
        got = b""
        while len(got) < len(words):
            more = s.recv(65536)
            if not more:
                raise ConnectionError("ended after %r" % got)
            got += more
        if got != words:
            raise ValueError(got)


server = Server(("127.0.0.1", int(sys.argv[1])), Echo)
threading.Thread(target=server.serve_forever, daemon=True).start()
n = failed = 0
while not select.select([sys.stdin], [], [], 0.005)[0]:
    n += 1
    try:
        once(n)
    except (OSError, ValueError) as e:
        failed += 1
        print("request %d: %s" % (n, e), file=sys.stderr)
print("%d requests, %d failed" % (n, failed))
sys.exit(failed > 0 or n == 0)
