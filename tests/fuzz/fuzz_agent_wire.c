/* Lists of entries, JWT-SVIDs, renewal advice and bundles, as an authority or who poses as one may write them. The
 * first byte chooses the parser. */
#include "agent/wire.h"
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct err e = {0};
    struct entry_list l;
    struct jwt_answer j;
    struct ari a;
    struct bundle_doc b;
    if (len == 0)
        return 0;
    struct bytes in = {data + 1, len - 1};
    switch (data[0]) {
    case 'e':
        if (entry_list_parse(&l, in, &e) == 0) {
            if (!*l.version || l.n > ENTRIES_PAGE_MAX || (l.more && l.n == 0))
                abort();
            for (size_t i = 0; i < l.n; i++)
                if (!l.list[i].id || !l.list[i].hint || strncmp(l.list[i].spiffe_id, "spiffe://", 9) != 0 || !l.list[i].ttl ||
                    l.list[i].number < 0)
                    abort();
            entry_list_free(&l);
        } else if (l.list || e.code == ERR_NONE) {
            abort();
        }
        break;
    case 'j':
        if (jwt_answer_parse(&j, "spiffe://x/a", in, &e) == 0) {
            if (j.expires <= j.issued || strlen(j.svid) > JWT_MAX)
                abort();
            free(j.svid);
        }
        break;
    case 'a':
        if (ari_parse(&a, in, &e) == 0 && (a.start < 0 || a.end < a.start))
            abort();
        break;
    case 'b':
        if (bundle_doc_parse(&b, in, &e) == 0) {
            if (b.roots_der.len == 0 || b.roots_pem.len == 0 || (*b.crl_base && !b.crl_shards))
                abort();
            bundle_doc_free(&b);
        }
        break;
    default:
        break;
    }
    return 0;
}
