/* Message bodies between frontend and signer, either of which may be taken. The first byte chooses
 * the parser; what parses is written back the same. */
#include "ca/msg.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void must_equal(const struct buf *b, const uint8_t *body, size_t len)
{
    if (b->failed || b->len != IPC_HEADER + len || memcmp(b->p + IPC_HEADER, body, len) != 0)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1 || len > IPC_FRAME_MAX - IPC_HEADER)
        return 0;
    const struct bytes body = {data + 1, len - 1};
    struct err e = {0}, why;
    struct ca_issue issue;
    struct ca_issued issued;
    struct ca_info info;
    struct ca_record record;
    struct ca_cosign cosign;
    struct ca_crl crl;
    struct ca_crl_signed crl_signed;
    struct ca_jwt jwt;
    struct ca_jwt_signed jwt_signed;
    uint64_t index;
    struct buf b;
    int r = -1;
    buf_init(&b, IPC_FRAME_MAX);
    switch (data[0] % 11) {
    case 0:
        if ((r = ca_issue_parse(&issue, body, &e)) == 0)
            ca_issue_write(&b, 1, &issue);
        break;
    case 1:
        if ((r = ca_issued_parse(&issued, body, &e)) == 0)
            ca_issued_write(&b, 1, &issued);
        break;
    case 2:
        if ((r = ca_refused_parse(&why, body, &e)) == 0)
            ca_refused_write(&b, 1, &why);
        break;
    case 4:
        if ((r = ca_record_parse(&record, body, &e)) == 0)
            ca_record_write(&b, 1, &record);
        break;
    case 5:
        if ((r = ca_recorded_parse(&index, body, &e)) == 0)
            ca_recorded_write(&b, 1, index);
        break;
    case 6:
        if ((r = ca_cosign_parse(&cosign, body, &e)) == 0)
            ca_cosign_write(&b, 1, &cosign);
        break;
    case 7:
        if ((r = ca_crl_parse(&crl, body, &e)) == 0)
            ca_crl_write(&b, 1, &crl);
        break;
    case 8:
        if ((r = ca_crl_signed_parse(&crl_signed, body, &e)) == 0)
            ca_crl_signed_write(&b, 1, &crl_signed);
        break;
    case 9:
        if ((r = ca_jwt_parse(&jwt, body, &e)) == 0)
            ca_jwt_write(&b, 1, &jwt);
        break;
    case 10:
        if ((r = ca_jwt_signed_parse(&jwt_signed, body, &e)) == 0)
            ca_jwt_signed_write(&b, 1, &jwt_signed);
        break;
    default:
        if ((r = ca_info_parse(&info, body, &e)) == 0)
            ca_info_write(&b, 1, &info);
    }
    if (r == 0)
        must_equal(&b, body.p, body.len);
    else if (e.code == ERR_NONE || !e.rule[0])
        abort();
    buf_free(&b);
    return 0;
}
