/* A token's claims, JSON, as google.protobuf.Struct. json_parse bounds the depth (JSON_DEPTH_MAX), so the
 * recursion here is bounded too. */
#include "workload/encode.h"
#include "workload/limits.h"
#include "workload/pb.h"
#include "base/json.h"
#include <stdlib.h>
#include <string.h>

struct encode_claims_arg {
    char *spiffe_id;
    json_t *claims;
};

struct encode_claims_arg *encode_claims_new(const char *spiffe_id, const char *json, size_t len,
                                            struct err *e)
{
    struct encode_claims_arg *a = calloc(1, sizeof *a);
    if (!a || !(a->spiffe_id = strdup(spiffe_id))) {
        err_set(e, ERR_INTERNAL, "memory", "out of memory for a token's claims");
    } else if ((a->claims = json_parse(json, len, LIMIT_CLAIMS, e)) != NULL) {
        if (json_is_object(a->claims))
            return a;
        err_set(e, ERR_MALFORMED, "claims", "the claims are no JSON object");
    }
    encode_claims_free(a);
    return NULL;
}

void encode_claims_free(struct encode_claims_arg *a)
{
    if (!a)
        return;
    json_decref(a->claims);
    free(a->spiffe_id);
    free(a);
}

/* jansson's strings are const, protobuf-c's are not, though packing only reads them. */
static char *text(const char *s)
{
    union {
        const char *in;
        char *out;
    } u = {.in = s};
    return u.out;
}

static Google__Protobuf__Value *value_of(struct scratch *s, json_t *j);

static Google__Protobuf__Struct *struct_of(struct scratch *s, json_t *j)
{
    Google__Protobuf__Struct *m = scratch_take(s, sizeof *m);
    size_t n = json_object_size(j);
    Google__Protobuf__Struct__FieldsEntry *all = scratch_take(s, (n + 1) * sizeof *all);
    Google__Protobuf__Struct__FieldsEntry **list = scratch_take(s, (n + 1) * sizeof *list);
    const char *key;
    json_t *member;
    if (!list)
        return NULL;
    *m = (Google__Protobuf__Struct)GOOGLE__PROTOBUF__STRUCT__INIT;
    m->fields = list;
    json_object_foreach(j, key, member)
    {
        Google__Protobuf__Struct__FieldsEntry *f = &all[m->n_fields];
        *f = (Google__Protobuf__Struct__FieldsEntry)GOOGLE__PROTOBUF__STRUCT__FIELDS_ENTRY__INIT;
        f->key = text(key);
        if (!(f->value = value_of(s, member)))
            return NULL;
        list[m->n_fields++] = f;
    }
    return m;
}

static Google__Protobuf__ListValue *list_of(struct scratch *s, json_t *j)
{
    Google__Protobuf__ListValue *m = scratch_take(s, sizeof *m);
    size_t n = json_array_size(j);
    Google__Protobuf__Value **list = scratch_take(s, (n + 1) * sizeof *list);
    if (!list)
        return NULL;
    *m = (Google__Protobuf__ListValue)GOOGLE__PROTOBUF__LIST_VALUE__INIT;
    m->values = list;
    for (; m->n_values < n; m->n_values++)
        if (!(list[m->n_values] = value_of(s, json_array_get(j, m->n_values))))
            return NULL;
    return m;
}

static Google__Protobuf__Value *value_of(struct scratch *s, json_t *j)
{
    Google__Protobuf__Value *v = scratch_take(s, sizeof *v);
    if (!v)
        return NULL;
    *v = (Google__Protobuf__Value)GOOGLE__PROTOBUF__VALUE__INIT;
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRUCT_VALUE;
        return (v->struct_value = struct_of(s, j)) ? v : NULL;
    case JSON_ARRAY:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_LIST_VALUE;
        return (v->list_value = list_of(s, j)) ? v : NULL;
    case JSON_STRING:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_STRING_VALUE;
        v->string_value = text(json_string_value(j));
        return v;
    case JSON_INTEGER:
    case JSON_REAL:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NUMBER_VALUE;
        v->number_value = json_number_value(j);
        return v;
    case JSON_TRUE:
    case JSON_FALSE:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_BOOL_VALUE;
        v->bool_value = json_is_true(j);
        return v;
    default:
        v->kind_case = GOOGLE__PROTOBUF__VALUE__KIND_NULL_VALUE;
        return v;
    }
}

int encode_claims(struct scratch *s, const void *encode_claims_arg)
{
    const struct encode_claims_arg *a = encode_claims_arg;
    ValidateJWTSVIDResponse m = VALIDATE_JWTSVIDRESPONSE__INIT;
    m.spiffe_id = a->spiffe_id;
    if (!(m.claims = struct_of(s, a->claims)))
        return -1;
    return scratch_pack(s, &m.base);
}
