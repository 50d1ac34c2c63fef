/* One request on its way through the corridor, with all the memory that it needs. */
#ifndef CA_JOB_H
#define CA_JOB_H
#include "ca/crl.h"
#include "ca/door.h"
#include "ca/tbs.h"
#include "tlog/record.h"

#define JOB_EXTENSIONS_MAX 8192
#define JOB_BODY_MAX 9216

struct job {
    struct job *next; /* in the pool or the queue */
    struct caller *caller; /* held */
    uint64_t id;
    struct ca_issue request; /* views into frame */
    struct tlog_record_info record; /* views into frame; type 0: a certificate is asked for */
    struct crl_draft *crl; /* owned; NULL: no CRL is asked for */
    bool is_jwt;           /* a JWT-SVID is asked for: */
    struct ca_jwt jwt;     /* views into frame */
    struct profile_leaf leaf;
    struct tbs_parts parts;
    struct buf log_ext;    /* extension list of the log entry; memory kept from job to job */
    struct buf log_entry;  /* the entry as logged */
    struct bytes log_body; /* view into log_entry: its tbs_cert_entry body */
    int64_t now;
    uint64_t index;
    struct bytes tbs; /* view into tbs_array; of a JWT, what is signed */
    uint8_t frame[IPC_FRAME_MAX];
    uint8_t extensions[JOB_EXTENSIONS_MAX];
    uint8_t tbs_array[CA_CERT_MAX];
};
void job_init(struct job *j);
void job_free(struct job *j); /* what it owns */
#endif
