/* Folders with identities of one authority: proxy_pki DIR ID=SUBDIR... (ID!: not logged; ID~SECONDS: lives so long). */
#include "tests/proxykit/kit.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

int main(int argc, char **argv)
{
    struct kit k;
    if (argc < 3) {
        fprintf(stderr, "usage: proxy_pki TRUST-DOMAIN PATH[!][~SECONDS]=DIR...\n");
        return 2;
    }
    kit_new(&k, argv[1]);
    for (int i = 2; i < argc; i++) {
        char id[512];
        struct kit_id made;
        char *dir = strchr(argv[i], '=');
        if (!dir)
            return 2;
        *dir++ = 0;
        struct kit_leaf l = {.id = id};
        char *life = strchr(argv[i], '~');
        if (life) {
            *life++ = 0;
            l.from = -60;
            l.until = atol(life);
        }
        size_t n = strlen(argv[i]);
        if (n && argv[i][n - 1] == '!') {
            argv[i][n - 1] = 0;
            l.unlogged = true;
        }
        snprintf(id, sizeof id, "spiffe://%s%s", argv[1], argv[i]);
        mkdir(dir, 0755);
        kit_make(&made, &k, &l);
        kit_write(&k, &made, dir);
        kit_id_free(&made);
    }
    kit_free(&k);
    return 0;
}
