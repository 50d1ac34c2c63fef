#include "ca/record.h"

int record_accept(struct job *j, struct bytes body, struct err *e)
{
    struct ca_record m;
    if (ca_record_parse(&m, body, e) < 0)
        return -1;
    if (m.type != TLOG_ENTRY_REVOCATION && m.type != TLOG_ENTRY_REFUSAL && m.type != TLOG_ENTRY_CHANGE)
        return err_set(e, ERR_DENIED, "record-type", "entries of type 0x%04x are not for others to write", m.type);
    return tlog_record_parse(&j->record, m.type, m.body, e);
}

int record_entry(struct job *j, struct err *e)
{
    struct tlog_entry entry = {.type = j->record.type};
    j->record.time = j->now;
    buf_reset(&j->log_entry);
    tlog_entry_write(&entry, &j->log_entry); /* the envelope; the body follows it */
    return tlog_record_write(&j->record, &j->log_entry, e);
}
