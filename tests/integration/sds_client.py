#!/usr/bin/python3
"""SDS as Envoy asks for it, of a real agent whose SVIDs rotate every few seconds: a stream for each secret, each response
answered by an ACK or a NACK with the version that was last accepted; what comes is put to use in a TLS handshake.

    sds_client.py --stubs DIR --socket PATH --id SPIFFE-ID

--id is the caller's first identity.
"""
import argparse
import os
import queue
import ssl
import sys
import tempfile
import threading

arguments = argparse.ArgumentParser()
arguments.add_argument("--stubs", required=True)
arguments.add_argument("--socket", required=True)
arguments.add_argument("--id", required=True)
args = arguments.parse_args()
sys.path.insert(0, args.stubs)

import grpc  # noqa: E402
import sds_pb2  # noqa: E402
import sds_pb2_grpc  # noqa: E402

PATIENCE = 60
SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
domain = "/".join(args.id.split("/")[:3])


def check(what, good, *details):
    if not good:
        print("FAILED:", what, *details, file=sys.stderr)
        sys.stderr.flush()
        os._exit(1)


class Subscription:
    """One stream, as Envoy has one for each secret that its configuration names."""

    def __init__(self, channel, *names):
        self.names, self.version, self.last = list(names), "", None
        self.requests, self.responses = queue.Queue(), queue.Queue()
        call = sds_pb2_grpc.SecretDiscoveryServiceStub(channel).StreamSecrets(iter(self.requests.get, None))
        threading.Thread(target=self.run, args=(call,), daemon=True).start()
        self.send()

    def run(self, call):
        try:
            for response in call:
                self.responses.put(response)
            self.responses.put(None)
        except grpc.RpcError as error:
            self.responses.put(error)

    def send(self, error=None):
        request = sds_pb2.DiscoveryRequest(resource_names=self.names, type_url=SECRET, version_info=self.version,
                                           response_nonce=self.last.nonce if self.last else "")
        if error:
            request.error_detail.code = 13
            request.error_detail.message = error
        self.requests.put(request)

    def next(self, names=False):
        """The secrets of the next response, by name."""
        response = self.responses.get(timeout=PATIENCE)
        check("a response", isinstance(response, sds_pb2.DiscoveryResponse), self.names, response)
        # The version is that of the data: other names of the same data have it, too
        check("another nonce", not self.last or response.nonce != self.last.nonce, self.names)
        check("another version", not self.last or names or response.version_info != self.last.version_info, self.names)
        self.last = response
        secrets = {}
        for resource in response.resources:
            check("type_url", resource.type_url == SECRET)
            secret = sds_pb2.Secret.FromString(resource.value)
            secrets[secret.name] = secret
        check("what was asked for", list(secrets) == self.names, list(secrets))
        return secrets

    def ack(self):
        self.version = self.last.version_info
        self.send()

    def nack(self):
        self.send("the test does not like it")

    def only(self):
        secret = self.next()[self.names[0]]
        self.ack()
        return secret

    def ends(self, code):
        error = self.responses.get(timeout=PATIENCE)
        check("the end", isinstance(error, grpc.RpcError) and error.code() == code, self.names, error)
        return error.details()


def identity(secret):
    return secret.tls_certificate.certificate_chain.inline_bytes, secret.tls_certificate.private_key.inline_bytes


def context(side, secret, roots):
    made = ssl.SSLContext(side)
    with tempfile.TemporaryDirectory() as folder:
        for name, data in zip(("chain", "key"), identity(secret)):
            with open(os.open(f"{folder}/{name}", os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                file.write(data)
        made.load_cert_chain(f"{folder}/chain", f"{folder}/key")
    made.check_hostname = False
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_verify_locations(cadata=roots.validation_context.trusted_ca.inline_bytes.decode())
    return made


def handshake(secret, roots):
    """Mutual TLS with itself; the SPIFFE ID that each side saw."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [context(ssl.PROTOCOL_TLS_CLIENT, secret, roots).wrap_bio(to_client, to_server),
             context(ssl.PROTOCOL_TLS_SERVER, secret, roots).wrap_bio(to_server, to_client, server_side=True)]
    open_ = list(sides)
    for _ in range(10):
        for side in list(open_):
            try:
                side.do_handshake()
                open_.remove(side)
            except ssl.SSLWantReadError:
                pass
    check("a handshake", not open_)
    for side in sides:
        uris = [value for kind, value in side.getpeercert()["subjectAltName"] if kind == "URI"]
        check("the peer", uris == [args.id], uris)


def main():
    with grpc.insecure_channel("unix://" + args.socket) as channel:
        certs, own = Subscription(channel, "default"), Subscription(channel, args.id)
        roots, all_, td = (Subscription(channel, name) for name in ("ROOTCA", "ALL", domain))
        trusted = roots.only()
        check("the domain's own name", td.only().validation_context == trusted.validation_context)
        validator = all_.only().validation_context.custom_validator_config
        check("the validator", validator.name == "envoy.tls.cert_validator.spiffe")
        config = sds_pb2.SPIFFECertValidatorConfig.FromString(validator.typed_config.value)
        check("its domains", [(d.name, d.trust_bundle) for d in config.trust_domains] ==
              [(domain[9:], trusted.validation_context.trusted_ca)])

        now, seen = certs.only(), set()
        for _ in range(3):
            handshake(now, trusted)
            seen.add(identity(now))
            now = certs.only()
        check("each push is another", identity(now) not in seen and len(seen) == 3)
        handshake(now, trusted)
        by_id = own.only()
        while identity(by_id) != identity(now):
            check("default is the identity", identity(by_id) in seen)
            by_id = own.only()

        # Refused: not sent again as it is, but the next one is
        refused = certs.next()["default"]
        certs.nack()
        after = certs.next()["default"]
        certs.ack()
        check("after a NACK", identity(after) not in seen | {identity(now), identity(refused)})
        handshake(after, trusted)

        # Another subscription on the same stream, as a listener that comes later asks for it
        certs.names = [args.id + "/two", "ROOTCA"]
        certs.send()
        more = certs.next(names=True)
        check("both kinds", more["ROOTCA"].validation_context == trusted.validation_context and
              more[args.id + "/two"].tls_certificate.private_key.inline_bytes)
        certs.ack()
        certs.next()
        for name in ("nonsense", domain + "/not/of/this/caller", "spiffe://elsewhere.example"):
            check("names the name", name in Subscription(channel, name).ends(grpc.StatusCode.INVALID_ARGUMENT))
        for quiet in (roots, all_, td):
            check("what did not change is not sent", quiet.responses.empty(), quiet.names)
        certs.requests.put(None)
        while certs.responses.get(timeout=PATIENCE) is not None:
            pass
    print("all good")


main()
