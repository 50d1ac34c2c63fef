/* A request's DATA: framing in pieces, then each message as each kind of request. What our reader takes,
 * protobuf-c takes, and reads the same.
 */
#include "workload/grpc.h"
#include "workload/limits.h"
#include "workload/pb.h"
#include "workload/request.h"
#include "workload/wire.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void need(bool good)
{
    if (!good)
        abort();
}

static void as_jwt(struct bytes m)
{
    struct request_jwt r;
    const char *why = NULL;
    enum wl_status status = request_jwt(&r, m, &why);
    if (status != WL_OK) {
        need(why && *why);
        return;
    }
    JWTSVIDRequest *p = jwtsvidrequest__unpack(NULL, m.len, m.p);
    need(p && r.n >= 1 && r.n == p->n_audience && strcmp(r.spiffe_id, p->spiffe_id) == 0);
    for (size_t i = 0; i < r.n; i++)
        need(strcmp(r.audience[i], p->audience[i]) == 0 && *r.audience[i]);
    jwtsvidrequest__free_unpacked(p, NULL);
    request_jwt_free(&r);
}

static void as_validate(struct bytes m)
{
    struct request_jwt r;
    const char *why = NULL;
    if (request_validate(&r, m, &why) != WL_OK) {
        need(why && *why);
        return;
    }
    ValidateJWTSVIDRequest *p = validate_jwtsvidrequest__unpack(NULL, m.len, m.p);
    need(p && strcmp(p->audience, r.audience[0]) == 0 && strcmp(p->svid, r.svid) == 0);
    validate_jwtsvidrequest__free_unpacked(p, NULL);
    request_jwt_free(&r);
}

static void as_sds(struct bytes m)
{
    struct request_sds r;
    const char *why = NULL;
    if (request_sds(&r, m, &why) != WL_OK) {
        need(why && *why && !r.names);
        return;
    }
    Envoy__Service__Secret__V3__DiscoveryRequest *p = envoy__service__secret__v3__discovery_request__unpack(NULL, m.len, m.p);
    if (p) { /* our reader looks at no more of it than it needs, so it may take what protobuf-c does not */
        need(r.names->n == p->n_resource_names && bytes_eq_str(r.nonce, p->response_nonce) &&
             r.refused == (p->error_detail != NULL));
        size_t i = 0;
        for (const char *n = NULL; (n = names_next(r.names, n)); i++)
            need(strcmp(n, p->resource_names[i]) == 0);
        envoy__service__secret__v3__discovery_request__free_unpacked(p, NULL);
    }
    need(names_equal(r.names, r.names));
    free(r.names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len == 0)
        return 0;
    size_t piece = 1 + data[0];
    struct grpc_in in;
    struct buf again; /* framing in pieces gives the same as in one */
    size_t messages = 0;
    buf_init(&again, len + 8);
    grpc_in_init(&in, 4096);
    enum grpc_fed fed = GRPC_MORE;
    for (size_t at = 1; at < len && fed <= GRPC_MESSAGE; at += piece) {
        const uint8_t *p = data + at;
        size_t n = len - at < piece ? len - at : piece;
        while (n > 0 && fed <= GRPC_MESSAGE) {
            if ((fed = grpc_in_feed(&in, &p, &n)) != GRPC_MESSAGE)
                continue;
            struct bytes m = {in.msg.p, in.msg.len};
            need(in.msg.len == in.want && in.want <= 4096);
            uint8_t prefix[GRPC_PREFIX];
            grpc_prefix(prefix, m.len);
            buf_put(&again, prefix, sizeof prefix);
            buf_put(&again, m.p, m.len);
            messages++;
            as_jwt(m);
            as_validate(m);
            as_sds(m);
            grpc_in_next(&in);
        }
    }
    need(!again.failed && (again.len == 0 || memcmp(again.p, data + 1, again.len) == 0));
    buf_free(&again);
    grpc_in_free(&in);
    (void)grpc_timeout_ms(data, len);
    char text[64];
    grpc_unescape(text, sizeof text, data, len);
    need(strlen(text) < sizeof text);
    return 0;
}
