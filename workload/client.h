/* The client's parts: client.c keeps the connection, client_h2.c is what goes over it. Private to those,
 * their unit tests and fuzzer.
 *
 * As on the server, things happen in turns: within one (busy) streams note what came of them, and at its end
 * (client_settle) bytes are written, a broken connection is closed and its streams failed. A callback may
 * free the client: it goes at the end of the turn.
 */
#ifndef WORKLOAD_CLIENT_H
#define WORKLOAD_CLIENT_H
#include "workload/grpc.h"
#include "workload/limits.h"
#include "workload/parse.h"
#include <event2/event.h>
#include <event2/event_struct.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <sys/un.h>

enum stream_kind { STREAM_X509, STREAM_JWKS, STREAM_CALL };
struct stream {
    struct wl_client *c;
    struct stream *next, **prev;
    enum stream_kind kind;
    int32_t id; /* 0: waits for a connection */
    struct buf out;
    size_t out_off;
    uint8_t prefix[GRPC_PREFIX];
    unsigned prefix_len;
    struct secret msg; /* of the size that the prefix says */
    bool whole;        /* a call's message is there */
    bool http_ok, grpc_ok;
    int status;        /* grpc-status; -1: none came */
    char message[256];
    wl_client_jwt_cb *cb; /* of a call */
    void *arg;
    struct event timer;
    struct jwt_list answer;
};

struct wl_client {
    struct event_base *base;
    struct wl_client_ops ops;
    bool jwt;
    struct sockaddr_un addr;
    int fd; /* -1: not connected */
    struct event in, out, retry;
    nghttp2_session *h2;
    nghttp2_session_callbacks *callbacks;
    nghttp2_option *option;
    struct secret rx; /* private keys pass here */
    struct stream *streams;
    unsigned calls;
    struct wl_state *x509;    /* kept when jwt, for the two come apart */
    struct wl_bundles *jwks;
    unsigned failures, refusals; /* in a row: nobody there or not ready; answered otherwise */
    int64_t up_since;         /* 0: nothing came over this connection yet */
    bool busy, blocked, broken, doomed;
    enum wl_status why;       /* broken: what the user is told */
    struct err err;
};
/* client.c */
void client_break(struct wl_client *c, enum wl_status why, const struct err *e);
void client_settle(struct wl_client *c);
/* Takes the one that is not NULL. */
void client_state(struct wl_client *c, struct wl_state *x509, struct wl_bundles *jwks);
/* client_h2.c */
int client_callbacks(struct wl_client *c, struct err *e);
struct stream *stream_new(struct wl_client *c, enum stream_kind kind);
int stream_submit(struct stream *s, struct err *e);
void stream_free(struct stream *s);
/* Answers a call and frees it. */
void stream_answer(struct stream *s, enum wl_status status, const struct err *e);
int client_session(struct wl_client *c, struct err *e);
void client_feed(struct wl_client *c, const uint8_t *p, size_t n);

#endif
