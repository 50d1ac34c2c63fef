"""A workload that this project did not write: all that speaks, parses and verifies here is py-spiffe's.

  workload.py ask AUDIENCE [rotated]   everything that the Workload API has, as one JSON object; what must
                                       not pass is refused; with "rotated", waits for another X.509-SVID
  workload.py serve PORT PEER          mTLS with spiffe-tls: answers each line of PEER, and of nobody else
  workload.py connect PORT PEER        says one line to PEER and prints the answer

The socket is the one that $SPIFFE_ENDPOINT_SOCKET names."""
import json
import sys
import threading

from cryptography.hazmat.primitives.asymmetric import ec
from OpenSSL import SSL
from spiffe import JwtSource, JwtSvid, SpiffeId, WorkloadApiClient, X509Source
from spiffe.errors import PySpiffeError
from spiffetls import ClientTlsMode, ListenOptions, ServerTlsMode, dial, listen
from spiffetls.tlsconfig.authorize import authorize_id

SECONDS = 120  # until something that must come counts as missing


def refused(what, call, *args, **named):
    try:
        call(*args, **named)
    except PySpiffeError as e:
        return str(e)
    raise SystemExit(f"workload: {what} passed")


def issued_by(cert, bundle):
    """Whether one of the bundle's authorities signed it."""
    for authority in bundle.x509_authorities:
        try:
            cert.verify_directly_issued_by(authority)
            return True
        except Exception:  # not this one
            continue
    return False


def x509(client, seen):
    context = client.fetch_x509_context()
    for svid in context.x509_svids:
        bundle = context.x509_bundle_set.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
        for cert, issuer in zip(svid.cert_chain, svid.cert_chain[1:]):
            cert.verify_directly_issued_by(issuer)
        assert issued_by(svid.cert_chain[-1], bundle), f"the bundle did not issue {svid.spiffe_id}"
        assert isinstance(svid.private_key, ec.EllipticCurvePrivateKey)
        assert svid.private_key.public_key() == svid.leaf.public_key(), "the key is another's"
        seen["ids"].append(str(svid.spiffe_id))
        seen["serials"].append(f"{svid.leaf.serial_number:x}")
    bundles = client.fetch_x509_bundles()
    assert bundles.bundles == context.x509_bundle_set.bundles, "other bundles than those beside the SVIDs"
    seen["bundles"] = sorted(b.trust_domain.name for b in bundles.bundles)


def jwt(client, audience, seen):
    bundles = client.fetch_jwt_bundles()
    seen["jwt_bundles"] = sorted(b.trust_domain.name for b in bundles.bundles)
    svid = client.fetch_jwt_svid(audience={audience, "another"})
    bundle = bundles.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain)
    for a in (audience, "another"):
        assert JwtSvid.parse_and_validate(svid.token, bundle, {a}).spiffe_id == svid.spiffe_id
        assert client.validate_jwt_svid(svid.token, a).spiffe_id == svid.spiffe_id
    assert client.fetch_jwt_svid(audience={audience}, subject=svid.spiffe_id).spiffe_id == svid.spiffe_id
    with JwtSource(timeout_in_seconds=SECONDS) as source:
        assert source.get_bundle_for_trust_domain(svid.spiffe_id.trust_domain) == bundle
        assert source.fetch_svid(audience={audience}).spiffe_id in {SpiffeId(i) for i in seen["ids"]}
    seen["jwt"], seen["expires"] = str(svid.spiffe_id), svid.expiry
    garbled = svid.token[:-10] + ("B" if svid.token[-10] == "A" else "A") + svid.token[-9:]  # in the signature
    foreign = SpiffeId(f"spiffe://{svid.spiffe_id.trust_domain.name}/not/of/this/caller")
    seen["refused"] = [
        refused("an identity of somebody else", client.fetch_jwt_svid, audience={audience}, subject=foreign),
        refused("an audience of somebody else", client.validate_jwt_svid, svid.token, "somebody else"),
        refused("a garbled token", client.validate_jwt_svid, garbled, audience),
    ]


def rotated(seen):
    """One stream, which must bring the next SVID by itself."""
    came = threading.Event()
    with X509Source(timeout_in_seconds=SECONDS) as source:
        serial = lambda: f"{source.svid.leaf.serial_number:x}"  # noqa: E731
        source.subscribe_for_updates(lambda: serial() != seen["serials"][0] and came.set())
        assert serial() != seen["serials"][0] or came.wait(SECONDS), "no rotation"
        seen["rotated"] = serial()


def ask(audience, *more):
    seen = {"ids": [], "serials": []}
    with WorkloadApiClient(default_timeout=SECONDS) as client:
        x509(client, seen)
        jwt(client, audience, seen)
    if more:
        rotated(seen)
    print(json.dumps(seen))


def serve(port, peer):
    with X509Source(timeout_in_seconds=SECONDS) as source:
        options = ListenOptions(tls_mode=ServerTlsMode.MTLS, authorize_fn=authorize_id(SpiffeId(peer)))
        listener = listen(f"127.0.0.1:{port}", source, options)
        while True:
            conn, _ = listener.accept()
            try:
                conn.sendall(b"you said " + conn.recv(1000))
                conn.shutdown()
            except SSL.Error as e:
                print("refused:", e, flush=True)
            conn.close()


def connect(port, peer):
    with X509Source(timeout_in_seconds=SECONDS) as source:
        conn = dial(f"127.0.0.1:{port}", source, ClientTlsMode.TLS, authorize_id(SpiffeId(peer)))
        conn.sendall(b"hello")
        print(conn.recv(1000).decode())


{"ask": ask, "serve": serve, "connect": connect}[sys.argv[1]](*sys.argv[2:])
