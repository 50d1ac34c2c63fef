/* Private to the notary (mayflyd_notary.c, mayflyd_asked.c): one witness, as it is asked. */
#ifndef CMD_MAYFLYD_NOTARY_H
#define CMD_MAYFLYD_NOTARY_H
#include "base/config.h"
#include "tlog/reader.h"
#include "tlog/witness.h"
#include <curl/curl.h>

struct asked {
    const struct config_witness *config; /* not owned */
    const struct tlog_vkey *key;         /* not owned */
    char url[1100];
    CURL *curl; /* kept between requests; owned */
    struct buf request, answer;

    bool busy;                        /* a request is on its way, about: */
    struct buf text;                  /* the signed text, */
    struct tlog_checkpoint offered;   /* parsed, */
    uint64_t old;                     /* and the old size that was named */

    uint64_t size;                    /* of the head that it has, as far as is known */
    unsigned conflicts;               /* answers 409 in a row */
    bool shown;                       /* the published checkpoint has its cosignature */
    bool have;                        /* it cosigned `cosigned`, with: */
    struct tlog_checkpoint cosigned;
    struct tlog_cosignature cosignature;
    int64_t handed_at;                /* to the signer; 0: not yet */

    unsigned backoff_ms;
    int64_t next_try;
    char said[32];                    /* what was last said of it, so that only changes are */
};
int asked_init(struct asked *w, const struct config_witness *config, const struct tlog_vkey *key,
               unsigned timeout_ms, struct err *e);
void asked_free(struct asked *w);
/* Offers the reader's head, with the proof from what the witness has. */
int asked_ask(struct asked *w, CURLM *multi, struct tlog_reader *log, struct err *e);
/* What became of the request; the handle is out of the multi one again. */
void asked_answered(struct asked *w, CURLcode how);
/* Puts the next try off, and says why when that is new. */
void asked_failed(struct asked *w, const struct err *e);
#endif
