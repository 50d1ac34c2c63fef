#!/usr/bin/python3
"""Keeps a FetchX509SVID stream open and prints a line for each message:

    svid TIME ID,ID SHA256-OF-A-LEAF          or      failed TIME CODE MESSAGE

    agent_stream.py --stubs DIR --socket PATH [--id ID] [--again] [--save DIR] [--streams N]

--id: the leaf is that one's, where it is there; else it is the first one's.
--again opens another stream when one ends (after a short while), as every client does. --save writes svid.der and
key.der of the same SVID. --streams opens N in connections of their own; then only counts are printed.
"""
import argparse
import hashlib
import sys
import threading
import time

arguments = argparse.ArgumentParser()
arguments.add_argument("--stubs", required=True)
arguments.add_argument("--socket", required=True)
arguments.add_argument("--id")
arguments.add_argument("--again", action="store_true")
arguments.add_argument("--save")
arguments.add_argument("--streams", type=int, default=1)
args = arguments.parse_args()
sys.path.insert(0, args.stubs)

import grpc  # noqa: E402
import workload_pb2 as wl  # noqa: E402
import workload_pb2_grpc  # noqa: E402

lock = threading.Lock()


def say(*words):
    with lock:
        print(*words, flush=True)


def first_certificate(der):
    size = 4 + int.from_bytes(der[2:4], "big")
    return der[:size]


def stream(number):
    options = [("grpc.use_local_subchannel_pool", 1)]
    while True:
        with grpc.insecure_channel("unix://" + args.socket, options=options) as channel:
            stub = workload_pb2_grpc.SpiffeWorkloadAPIStub(channel)
            try:
                for message in stub.FetchX509SVID(wl.X509SVIDRequest(), metadata=(("workload.spiffe.io", "true"),)):
                    shown = next((s for s in message.svids if s.spiffe_id == args.id), message.svids[0])
                    leaf = first_certificate(shown.x509_svid)
                    say("svid", "%.3f" % time.time(), ",".join(s.spiffe_id for s in message.svids),
                        hashlib.sha256(leaf).hexdigest())
                    if args.save:
                        with open(args.save + "/svid.der", "wb") as file:
                            file.write(leaf)
                        with open(args.save + "/key.der", "wb") as file:
                            file.write(shown.x509_svid_key)
                        with open(args.save + "/bundle.der", "wb") as file:
                            file.write(shown.bundle)
                say("failed", "%.3f" % time.time(), "OK", "the stream ended")
            except grpc.RpcError as error:
                say("failed", "%.3f" % time.time(), error.code().name, error.details())
        if not args.again:
            return
        time.sleep(0.2)


threads = [threading.Thread(target=stream, args=(n,)) for n in range(args.streams)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
