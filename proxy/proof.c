/* Is a peer's certificate proven logged? By the log that its issuing certificate names, offline. */
#include "proxy/trust_parts.h"
#include <openssl/sha.h>
#include <string.h>

/* What a checkpoint's verdict hangs on: the key, and the note as it stands. */
static void note_digest(uint8_t dst[32], const struct tlog_vkey *k, struct bytes note)
{
    EVP_MD_CTX *m = EVP_MD_CTX_new();
    if (!m || EVP_DigestInit_ex(m, EVP_sha256(), NULL) != 1 || EVP_DigestUpdate(m, k->name, sizeof k->name) != 1 ||
        EVP_DigestUpdate(m, k->pub, sizeof k->pub) != 1 || EVP_DigestUpdate(m, note.p, note.len) != 1 ||
        EVP_DigestFinal_ex(m, dst, NULL) != 1)
        memset(dst, 0, 32); /* is kept for nobody */
    EVP_MD_CTX_free(m);
}

static bool zero(const uint8_t d[32])
{
    static const uint8_t none[32];
    return memcmp(d, none, 32) == 0;
}

static int head_of(uint64_t *size, struct tlog_hash *root, struct checkpoints *kept, const struct tlog_vkey *k,
                   struct bytes note, struct err *e)
{
    uint8_t digest[32];
    struct tlog_checkpoint cp;
    note_digest(digest, k, note);
    for (unsigned i = 0; i < CHECKPOINTS_KEPT; i++)
        if (kept->list[i].used && memcmp(kept->list[i].digest, digest, 32) == 0) {
            *size = kept->list[i].size;
            *root = kept->list[i].root;
            return 0;
        }
    if (tlog_checkpoint_open(&cp, note.p, note.len, k, e) < 0)
        return -1;
    *size = cp.size;
    *root = cp.root;
    if (!zero(digest)) {
        unsigned at = kept->next++ % CHECKPOINTS_KEPT;
        memcpy(kept->list[at].digest, digest, 32);
        kept->list[at].size = cp.size;
        kept->list[at].root = cp.root;
        kept->list[at].used = true;
    }
    return 0;
}

static int prove(struct peer *p, struct checkpoints *kept, struct bytes leaf, const struct tlog_vkey *k, struct err *e)
{
    struct tlog_claim claim;
    struct tlog_hash root;
    uint64_t size;
    if (tlog_cert_claim(&claim, leaf.p, leaf.len, (struct bytes){NULL, 0}, e) < 0 ||
        head_of(&size, &root, kept, k, claim.proof.checkpoint, e) < 0 ||
        merkle_verify_inclusion(claim.proof.index, size, &claim.leaf, claim.proof.path, claim.proof.path_len, &root, e) < 0)
        return -1;
    p->proven = true;
    p->log_index = claim.proof.index;
    return 0;
}

int proof_check(struct peer *p, struct checkpoints *kept, X509 *leaf, X509 *issuing, struct err *e)
{
    unsigned char *l = NULL, *i = NULL;
    struct tlog_vkey k = {0};
    int l_len = i2d_X509(leaf, &l), i_len = i2d_X509(issuing, &i), rc;
    if (l_len <= 0 || i_len <= 0)
        rc = err_set(e, ERR_INTERNAL, "memory", "out of memory");
    else if ((rc = tlog_binding_from_cert(&k, i, (size_t)i_len, e)) == 0)
        rc = prove(p, kept, (struct bytes){l, (size_t)l_len}, &k, e);
    tlog_vkey_free(&k);
    OPENSSL_free(l);
    OPENSSL_free(i);
    return rc < 0 ? err_wrap(e, "not proven logged") : 0;
}
