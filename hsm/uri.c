/* PKCS#11 URIs (RFC 7512): which token, and through which module. */
#include "hsm/internal.h"
#include <ctype.h>
#include <errno.h>
#include <stddef.h>
#include <stdlib.h>

static const struct uri_field {
    const char *name;
    bool query; /* stands after '?' (RFC 7512 §2.3) */
    size_t at, cap;
} fields[HSM_URI_ATTRS] = {
    [HSM_URI_TOKEN] = {"token", false, offsetof(struct hsm_uri, token), 65},
    [HSM_URI_MANUFACTURER] = {"manufacturer", false, offsetof(struct hsm_uri, manufacturer), 65},
    [HSM_URI_MODEL] = {"model", false, offsetof(struct hsm_uri, model), 65},
    [HSM_URI_SERIAL] = {"serial", false, offsetof(struct hsm_uri, serial), 65},
    [HSM_URI_SLOT_ID] = {"slot-id", false, offsetof(struct hsm_uri, slot), 21},
    [HSM_URI_MODULE_PATH] = {"module-path", true, offsetof(struct hsm_uri, module_path), 1024},
};

/* Attributes of the standard that have no business here, and what to write instead. */
static const struct {
    const char *name, *why;
} refused[] = {
    {"pin-value", "a PIN never stands in a URI, where logs and process lists show it; give it in "
                  "a file, a credential or a descriptor"},
    {"pin-source", "where the PIN comes from is configured outside the URI; remove it"},
    {"module-name", "name the module with module-path=, so that no search path decides"},
    {"object", "keys are found by their fixed labels; the URI names only the token"},
    {"id", "keys are found by their fixed labels; the URI names only the token"},
    {"type", "keys are found by their fixed labels; the URI names only the token"},
};

static bool uri_char(unsigned char c, bool query)
{
    if (isalnum(c) && c < 0x80)
        return true;
    /* RFC 7512 §2.3: unreserved, pk11-res-avail, and '&' in the path or "/?|" in the query. */
    return c && (strchr("-._~:[]@!$'()*+,=", c) || (query ? strchr("/?|", c) != NULL : c == '&'));
}

static int uri_decode(char *dst, size_t cap, const char *src, size_t len, bool query,
                      const char *name, struct err *e)
{
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)src[i];
        if (c == '%') {
            if (len - i < 3 || hex_decode(&c, 1, src + i + 1, 2) != 1)
                return err_set(e, ERR_CONFIG, "hsm-uri",
                               "%s: '%%' is not followed by two hex digits (RFC 7512 §2.3)", name);
            i += 2;
            if (c < 0x20 || c == 0x7f)
                return err_set(e, ERR_CONFIG, "hsm-uri", "%s holds a control character", name);
        } else if (!uri_char(c, query)) {
            return err_set(e, ERR_CONFIG, "hsm-uri",
                           "%s: byte 0x%02x must be percent-encoded (RFC 7512 §2.3)", name, c);
        }
        if (n + 1 >= cap)
            return err_set(e, ERR_CONFIG, "hsm-uri", "%s is longer than %zu bytes", name, cap - 1);
        dst[n++] = (char)c;
    }
    dst[n] = '\0';
    return 0;
}

static int uri_unknown(const char *name, size_t len, struct err *e)
{
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
        if (strlen(refused[i].name) == len && memcmp(refused[i].name, name, len) == 0)
            return err_set(e, ERR_CONFIG, "hsm-uri", "%s= is refused: %s", refused[i].name,
                           refused[i].why);
    char shown[33];
    size_t n = 0;
    for (; n < len && n < sizeof(shown) - 1; n++)
        shown[n] = isprint((unsigned char)name[n]) ? name[n] : '?';
    shown[n] = '\0';
    return err_set(e, ERR_CONFIG, "hsm-uri",
                   "attribute '%s' is not known here; token, manufacturer, model, serial, slot-id "
                   "and, after '?', module-path are",
                   shown);
}

static int uri_slot_id(struct hsm_uri *u, struct err *e)
{
    const char *s = u->slot;
    char *end = NULL;
    errno = 0;
    u->slot_id = isdigit((unsigned char)s[0]) ? strtoul(s, &end, 10) : 0;
    if (!end || *end || errno)
        return err_set(e, ERR_CONFIG, "hsm-uri", "slot-id must be a decimal number");
    return 0;
}

static int uri_attribute(struct hsm_uri *u, const char *p, size_t len, bool query, struct err *e)
{
    const char *eq = memchr(p, '=', len);
    if (!eq)
        return err_set(e, ERR_CONFIG, "hsm-uri",
                       "each attribute is written name=value, separated by '%c'; one has no '='",
                       query ? '&' : ';');
    size_t name_len = (size_t)(eq - p);
    unsigned i = 0;
    while (i < HSM_URI_ATTRS && (strlen(fields[i].name) != name_len ||
                                 memcmp(fields[i].name, p, name_len) != 0))
        i++;
    if (i == HSM_URI_ATTRS)
        return uri_unknown(p, name_len, e);
    const struct uri_field *f = &fields[i];
    if (f->query != query)
        return err_set(e, ERR_CONFIG, "hsm-uri", "%s= belongs %s the '?' (RFC 7512 §2.3)", f->name,
                       f->query ? "after" : "before");
    if (u->has & 1u << i)
        return err_set(e, ERR_CONFIG, "hsm-uri", "%s= is given twice (RFC 7512 §2.3)", f->name);
    if (uri_decode((char *)u + f->at, f->cap, eq + 1, len - name_len - 1, query, f->name, e))
        return -1;
    u->has |= 1u << i;
    return i == HSM_URI_SLOT_ID ? uri_slot_id(u, e) : 0;
}

static int uri_part(struct hsm_uri *u, const char *p, size_t len, bool query, struct err *e)
{
    while (len > 0) {
        const char *sep = memchr(p, query ? '&' : ';', len);
        size_t n = sep ? (size_t)(sep - p) : len;
        if (uri_attribute(u, p, n, query, e))
            return -1;
        if (!sep)
            return 0;
        p += n + 1;
        len -= n + 1;
        if (len == 0)
            return err_set(e, ERR_CONFIG, "hsm-uri", "ends in '%c'", query ? '&' : ';');
    }
    return 0;
}

int hsm_uri_parse(struct hsm_uri *u, const char *text, struct err *e)
{
    memset(u, 0, sizeof(*u));
    if (!text || !*text)
        return 0;
    if (strncasecmp(text, "pkcs11:", 7) != 0)
        return err_set(e, ERR_CONFIG, "hsm-uri",
                       "the token's URI must begin with \"pkcs11:\", e.g. pkcs11:token=mayfly");
    text += 7;
    const char *q = strchr(text, '?');
    size_t path = q ? (size_t)(q - text) : strlen(text);
    if (uri_part(u, text, path, false, e) || (q && uri_part(u, q + 1, strlen(q + 1), true, e)))
        return err_wrap(e, "PKCS#11 URI");
    return 0;
}

bool hsm_uri_match(const struct hsm_uri *u, const struct hsm_token_id *t)
{
    const char *have[] = {[HSM_URI_TOKEN] = t->label, [HSM_URI_MANUFACTURER] = t->manufacturer,
                          [HSM_URI_MODEL] = t->model, [HSM_URI_SERIAL] = t->serial};
    for (unsigned i = HSM_URI_TOKEN; i <= HSM_URI_SERIAL; i++)
        if (u->has & 1u << i && strcmp((const char *)u + fields[i].at, have[i] ? have[i] : "") != 0)
            return false;
    return !(u->has & 1u << HSM_URI_SLOT_ID) || u->slot_id == t->slot_id;
}
