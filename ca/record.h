/* Records beside certificates: what the frontend may have written into the log (tlog/record.h).
 *
 * A record takes the corridor's steps 1 to 6 and ends there: it is durable under a signed head, and
 * nothing is signed for it. So the frontend can add to the log's account of what happened, and
 * can neither take from it nor get anything by it. Its time is the signer's, whatever the frontend
 * said; changes of the authority are the signer's own to record; and the number of records a
 * second is capped, so that a taken frontend cannot fill the disk faster than by asking for
 * certificates. */
#ifndef CA_RECORD_H
#define CA_RECORD_H
#include "ca/job.h"

#define RECORDS_A_SECOND 200
#define RECORD_EVERY_US (1000000 / RECORDS_A_SECOND)

/* Steps 2 and 3: reads the message into j->record. Rules "ca-msg", "record-format", "record-type". */
int record_accept(struct job *j, struct bytes body, struct err *e);
/* Step 5: the log entry, with j->now as its time. */
int record_entry(struct job *j, struct err *e);
#endif
