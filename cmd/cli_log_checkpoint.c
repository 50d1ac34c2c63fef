/* mayfly log checkpoint: the published head, and who cosigned it. */
#include "base/clock.h"
#include "base/fileio.h"
#include "ca/witnesses.h"
#include "cmd/cli_log.h"
#include "tlog/policy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMMAND "mayfly log checkpoint"

static const char checkpoint_help[] =
    "usage: mayfly log checkpoint [OPTION...]\n"
    "\n"
    "The published head, its signature verified, and which of the configured witnesses cosigned it.\n"
    "\n"
    "      --policy FILE  judge it by this policy (mayfly-policy(5)): logs, witnesses, quorum\n"
    CLI_LOG_HELP
    "\n"
    "Example:\n"
    "  mayfly log checkpoint --dir ./authority\n";

struct head {
    struct buf file;
    struct tlog_note note; /* views into file */
    struct witnesses witnesses;
    struct tlog_policy *policy; /* NULL: none was asked for */
    struct tlog_accepted accepted;
    struct {
        bool cosigned;
        uint64_t time;
    } by[CONFIG_WITNESSES_MAX];
    size_t others; /* signature lines of keys that are not known here */
};

static int head_read(struct head *h, const struct log_args *a, struct err *e)
{
    char path[4096];
    struct tlog_checkpoint c;
    if (snprintf(path, sizeof path, "%s/checkpoint", a->dir) >= (int)sizeof path)
        return err_set(e, ERR_USAGE, "path", "--log: the path is too long");
    if (file_read(&h->file, path, TLOG_NOTE_MAX, e) < 0)
        return log_unverified(e);
    if (tlog_checkpoint_open(&c, h->file.p, h->file.len, &a->vkey, e) < 0 ||
        tlog_note_parse(&h->note, h->file.p, h->file.len, e) < 0)
        return log_unverified(e);
    return 0;
}

static bool line_is(const struct tlog_note_sig *s, const struct tlog_vkey *k)
{
    return memcmp(s->id, k->id, sizeof s->id) == 0 && bytes_eq_str(s->name, k->name);
}

static int witnesses_find(struct head *h, const struct log_args *a, struct err *e)
{
    if (a->config && witnesses_load(&h->witnesses, a->config, e) < 0)
        return -1;
    for (size_t i = 0; i < h->witnesses.count; i++) {
        int found = tlog_cosign_find(&h->note, &h->witnesses.key[i], &h->by[i].time, e);
        if (found < 0)
            return log_unverified(e);
        h->by[i].cosigned = found > 0;
    }
    for (size_t i = 0; i < h->note.sig_count; i++) {
        bool known = line_is(&h->note.sigs[i], &a->vkey);
        for (size_t k = 0; k < h->witnesses.count; k++)
            known |= line_is(&h->note.sigs[i], &h->witnesses.key[k]);
        h->others += !known;
    }
    return 0;
}

static int policy_judge(struct head *h, const char *path, struct err *e)
{
    struct buf text;
    buf_init(&text, TLOG_POLICY_MAX);
    h->policy = tlog_policy_new();
    int rc = h->policy ? file_read(&text, path, TLOG_POLICY_MAX, e)
                       : err_set(e, ERR_INTERNAL, "memory", "out of memory");
    if (rc == 0)
        rc = tlog_policy_parse(h->policy, (const char *)text.p, text.len, e);
    if (rc == 0 && tlog_policy_open(h->policy, clock_wall(), h->file.p, h->file.len, &h->accepted, e) < 0)
        rc = log_unverified(e);
    buf_free(&text);
    return rc;
}

static void say_json(const struct head *h, const struct tlog_vkey *key)
{
    const struct tlog_checkpoint *c = &h->note.checkpoint;
    char root[64];
    struct buf vkey;
    buf_init(&vkey, 1024);
    tlog_vkey_write(key, &vkey);
    log_root_text(root, &c->root);
    json_t *doc = json_pack("{s:s,s:I,s:s,s:s%,s:s%,s:[],s:I}", "origin", c->origin, "size", (json_int_t)c->size,
                            "root", root, "note", h->file.p, h->file.len, "vkey", vkey.p, vkey.len, "witnesses",
                            "unknown_signatures", (json_int_t)h->others);
    buf_free(&vkey);
    for (size_t i = 0; i < h->witnesses.count; i++)
        json_array_append_new(json_object_get(doc, "witnesses"),
                              json_pack("{s:s,s:b,s:I}", "name", h->witnesses.key[i].name, "cosigned",
                                        h->by[i].cosigned, "time", (json_int_t)h->by[i].time));
    if (h->policy)
        json_object_set_new(doc, "policy_witnesses", json_integer(h->accepted.witnesses));
    json_dumpf(doc, stdout, JSON_COMPACT);
    putchar('\n');
    json_decref(doc);
}

static void say_people(const struct head *h)
{
    char when[64];
    fwrite(h->file.p, 1, h->file.len, stdout);
    printf("\nsignature verified: the log %s has %llu entries\n", h->note.checkpoint.origin,
           (unsigned long long)h->note.checkpoint.size);
    for (size_t i = 0; i < h->witnesses.count; i++) {
        if (h->by[i].cosigned)
            cli_when(when, sizeof when, (int64_t)h->by[i].time);
        printf("  %s %s%s\n", h->by[i].cosigned ? "cosigned by" : "not cosigned by", h->witnesses.key[i].name,
               h->by[i].cosigned ? ", " : "");
        if (h->by[i].cosigned)
            printf("    %s\n", when);
    }
    if (h->others)
        printf("  %zu more signature%s by keys that are not known here\n", h->others, h->others == 1 ? "" : "s");
    if (h->policy)
        printf("accepted by the policy: %u of its witnesses cosigned it\n", h->accepted.witnesses);
}

int cli_log_checkpoint(int argc, char **argv)
{
    enum { OPT_POLICY = CLI_LOG_OPT_FIRST };
    static const struct option options[] = {{"policy", required_argument, NULL, OPT_POLICY}, CLI_LOG_OPTIONS};
    static struct head h;
    struct log_args a = {0};
    struct err e = {0};
    const char *policy = NULL;
    for (int o; (o = args_getopt(argc, argv, "d:h", options, COMMAND)) != -1;) {
        if (o == OPT_POLICY)
            policy = optarg;
        else if (!log_args_option(&a, o, checkpoint_help))
            return ARGS_USAGE;
    }
    if (args_no_operands(argc, argv, COMMAND) < 0)
        return ARGS_USAGE;
    buf_init(&h.file, TLOG_NOTE_MAX);
    int rc = log_args_load(&a, &e) < 0 || head_read(&h, &a, &e) < 0 || witnesses_find(&h, &a, &e) < 0 ? -1 : 0;
    if (rc == 0 && policy)
        rc = policy_judge(&h, policy, &e);
    if (rc == 0)
        a.cli.json ? say_json(&h, &a.vkey) : say_people(&h);
    int code = rc < 0 ? cli_fail(&a.cli, COMMAND, &e) : ARGS_OK;
    tlog_policy_free(h.policy);
    witnesses_free(&h.witnesses);
    buf_free(&h.file);
    log_args_free(&a);
    return code;
}
