#!/usr/bin/env python3
"""Load on a server with mTLS while its certificate rotates.

rotation_load.py http|postgres PORT ROTATIONS CLIENT-DIR [again] -- SERVER-START... :: output_driver...

Starts the driver, lets it write the first set, starts the server and waits until it answers; then threads make
request after request, each over a new TLS connection with a client certificate, while the certificate is replaced
ROTATIONS times, once with a new root beside the old. Each rotation must be seen by the load before the next one; not one request may fail. Some
requests are made by `openssl s_client`, as a client that is not of this program's family.
again: a request that fails is made once more, and fails if it fails again (for servers that reset connections while
they read their configuration).
"""
import os
import signal
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time

THREADS = 3
PATIENCE = 60  # seconds; only a broken server needs them


class Load:
    def __init__(self, kind, port, client, again):
        self.again, self.repeated = again, 0
        self.kind, self.port, self.client = kind, port, client
        self.lock = threading.Condition()
        self.seen, self.requests, self.failures = set(), 0, []
        self.stop = False

    def context(self):
        """The client's own set rotates too: read from one set, as ..data leads to it now. A set that is two
        generations old is gone; then there is a newer one."""
        for _ in range(100):
            one = os.path.join(self.client, os.readlink(os.path.join(self.client, "..data")))
            try:
                c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                c.load_verify_locations(os.path.join(one, "bundle.pem"))
                c.load_cert_chain(os.path.join(one, "svid.pem"), os.path.join(one, "svid.key"))
                return c
            except FileNotFoundError:
                continue
        raise RuntimeError("no whole set to read")

    def http(self, s):
        s.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        answer = b""
        while True:
            part = s.recv(4096)
            if not part:
                break
            answer += part
        if not answer.startswith(b"HTTP/1.1 200") or b"hello" not in answer:
            raise RuntimeError("answer %r" % answer[:100])

    def postgres(self, s):
        user = b"user\0load\0database\0postgres\0\0"
        s.sendall(struct.pack("!II", 8 + len(user), 196608) + user)
        self.until_ready(s)
        query = b"select 41+1\0"
        s.sendall(b"Q" + struct.pack("!I", 4 + len(query)) + query)
        if b"42" not in self.until_ready(s):
            raise RuntimeError("no 42")
        s.sendall(b"X" + struct.pack("!I", 4))

    def until_ready(self, s):
        got = b""
        while True:
            kind = self.exactly(s, 1)
            body = self.exactly(s, struct.unpack("!I", self.exactly(s, 4))[0] - 4)
            if kind == b"E":
                raise RuntimeError("server says %r" % body)
            if kind == b"Z":
                return got
            got += body

    @staticmethod
    def exactly(s, n):
        got = b""
        while len(got) < n:
            part = s.recv(n - len(got))
            if not part:
                raise RuntimeError("the server hung up")
            got += part
        return got

    def request(self):
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        try:
            if self.kind == "postgres":
                raw.sendall(struct.pack("!II", 8, 80877103))
                if self.exactly(raw, 1) != b"S":
                    raise RuntimeError("no TLS")
            with self.context().wrap_socket(raw, server_hostname="localhost") as s:
                cert = s.getpeercert()
                if ("URI", "spiffe://example.org/server") not in cert["subjectAltName"]:
                    raise RuntimeError("another server: %r" % (cert["subjectAltName"],))
                getattr(self, self.kind)(s)
                return cert["serialNumber"]
        finally:
            raw.close()

    def s_client(self):
        one = os.path.join(self.client, os.readlink(os.path.join(self.client, "..data")))
        p = subprocess.run(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % self.port, "-servername", "localhost", "-quiet",
             "-verify_return_error", "-verify_hostname", "localhost", "-CAfile", one + "/bundle.pem",
             "-cert", one + "/svid.pem", "-cert_chain", one + "/svid.pem", "-key", one + "/svid.key"],
            input=b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            capture_output=True, timeout=PATIENCE, check=False)
        if b"hello" not in p.stdout:
            if not all(os.path.exists(one + "/" + f) for f in ("bundle.pem", "svid.pem", "svid.key")):
                return  # read too late: the set is going
            raise RuntimeError("s_client: %r" % p.stderr[-300:])

    def attempt(self, n):
        serial = self.request()
        if n == 0 and self.kind == "http":
            self.s_client()
        return serial

    def attempt_again(self, n):
        try:
            return self.attempt(n)
        except (OSError, RuntimeError):
            with self.lock:
                self.repeated += 1
            return self.attempt(n)

    def work(self, n):
        while not self.stop:
            try:
                serial = self.attempt_again(n) if self.again else self.attempt(n)
            except Exception as e:  # every kind of failure is one
                with self.lock:
                    self.failures.append("%s: %s" % (type(e).__name__, e))
                time.sleep(0.05)
                continue
            with self.lock:
                self.requests += 1
                self.seen.add(serial)
                self.lock.notify_all()

    def sees(self, serial):
        with self.lock:
            return self.lock.wait_for(lambda: serial in self.seen, PATIENCE)


def rotate(driver, word=b"rotate"):
    driver.stdin.write(word + b"\n")
    driver.stdin.flush()
    said = driver.stdout.readline().decode().strip()
    if not said or "failed" in said:
        raise SystemExit("rotation: %s" % said)
    return said


def wait_for_server(load, server):
    until = time.monotonic() + PATIENCE
    while True:
        try:
            load.request()
            return
        except Exception as e:
            if server.poll() is not None:
                raise SystemExit("the server ended with %d" % server.returncode)
            if time.monotonic() > until:
                raise SystemExit("the server does not answer: %s" % e)
            time.sleep(0.1)


def refuses_strangers(load):
    """Without a certificate there is no answer: else nothing above proves mTLS."""
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.load_verify_locations(os.path.join(load.client, "bundle.pem"))
    mine, load.context = load.context, lambda: c
    try:
        load.request()
    except (ssl.SSLError, OSError, RuntimeError):
        return
    finally:
        load.context = mine
    raise SystemExit("a client without a certificate was answered")


def main():
    kind, port, rotations, client = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    again = sys.argv[5] == "again"
    rest = sys.argv[7 if again else 6:]
    cut = rest.index("::")
    driver = subprocess.Popen(rest[cut + 1:], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    rotate(driver)
    server = subprocess.Popen(rest[:cut])
    load = Load(kind, port, client, again)
    threads = [threading.Thread(target=load.work, args=(n,)) for n in range(THREADS)]
    begin = time.monotonic()
    try:
        wait_for_server(load, server)
        refuses_strangers(load)
        for t in threads:
            t.start()
        for i in range(rotations):
            serial = rotate(driver, b"roots" if i == rotations // 2 else b"rotate")
            if not load.sees(serial):
                raise SystemExit("rotation %d was not seen; failures: %s" % (i, load.failures[:3]))
        load.stop = True
        for t in threads:
            t.join()
    finally:
        load.stop = True
        server.send_signal(signal.SIGTERM)
        driver.stdin.close()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
    if load.failures:
        raise SystemExit("%d of %d requests failed: %s" % (len(load.failures), load.requests, load.failures[:5]))
    repeated = ", %d made twice" % load.repeated if again else ""
    print("%d rotations, %d requests, none failed%s, %d certificates seen, %.1f s"
          % (rotations, load.requests, repeated, len(load.seen), time.monotonic() - begin))


main()
