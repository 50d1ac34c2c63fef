/* Log lines for operators (not the transparency log, which is tlog/). One line an event, to
 * standard error: text for people when it is a terminal, JSON otherwise or as configured.
 * A line is written with one write(2), so processes may share the descriptor. Newlines and control
 * characters in values are escaped. Key-value pairs follow the message as alternating
 * const char *key, const char *value, ended by NULL: log_info("started", "port", "8443", NULL).
 * Secrets are never passed here. Thread safe.
 */
#ifndef BASE_LOG_H
#define BASE_LOG_H
#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_AUTO, LOG_TEXT, LOG_JSON };

void log_setup(const char *process, enum log_level min, enum log_format format);
void log_event(enum log_level level, const char *msg, ...) __attribute__((sentinel));
void log_err(enum log_level level, const char *msg, const struct err *e); /* with code and rule */
#define log_debug(...) log_event(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_event(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_event(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_event(LOG_ERROR, __VA_ARGS__)
/* A number as a value for log_event, valid until the thread's eighth next call. */
const char *log_num(long long v);

#endif
