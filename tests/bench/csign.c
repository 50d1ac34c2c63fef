/* Raw C_Sign on a token, without anything of ours: the yardstick of the bench.
 *   bench_csign MODULE TOKEN-LABEL PIN-FILE KEY-LABEL THREADS SECONDS
 * Prints one JSON object. SOFTHSM2_CONF comes from the environment. */
#include <dlfcn.h>
#include <p11-kit/pkcs11.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static CK_FUNCTION_LIST_PTR p11;
static CK_SLOT_ID slot;
static CK_OBJECT_HANDLE key;
static atomic_bool stop;
static atomic_ulong count;

static double at(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static CK_SESSION_HANDLE session(void)
{
    CK_SESSION_HANDLE s;
    if (p11->C_OpenSession(slot, CKF_SERIAL_SESSION, NULL, NULL, &s) != CKR_OK)
        abort();
    return s;
}

static void *sign(void *arg)
{
    CK_SESSION_HANDLE s = session();
    CK_BYTE digest[32] = {1}, sig[128];
    while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
        CK_MECHANISM m = {CKM_ECDSA, NULL, 0};
        CK_ULONG len = sizeof sig;
        if (p11->C_SignInit(s, &m, key) != CKR_OK || p11->C_Sign(s, digest, sizeof digest, sig, &len) != CKR_OK)
            abort();
        digest[0]++;
        atomic_fetch_add_explicit(&count, 1, memory_order_relaxed);
    }
    return NULL;
}

static void open_token(char **argv)
{
    void *module = dlopen(argv[1], RTLD_NOW);
    CK_RV (*list)(CK_FUNCTION_LIST_PTR_PTR) = NULL;
    if (module)
        *(void **)&list = dlsym(module, "C_GetFunctionList");
    CK_C_INITIALIZE_ARGS args = {.flags = CKF_OS_LOCKING_OK};
    CK_SLOT_ID slots[32];
    CK_ULONG n = 32;
    if (!list || list(&p11) != CKR_OK || p11->C_Initialize(&args) != CKR_OK || p11->C_GetSlotList(CK_TRUE, slots, &n) != CKR_OK)
        abort();
    for (CK_ULONG i = 0; i < n; i++) {
        CK_TOKEN_INFO info;
        char label[33] = "";
        p11->C_GetTokenInfo(slots[i], &info);
        memcpy(label, info.label, 32);
        for (int k = 31; k >= 0 && label[k] == ' '; k--)
            label[k] = 0;
        if (strcmp(label, argv[2]) == 0)
            slot = slots[i];
    }
    char pin[256] = "";
    FILE *f = fopen(argv[3], "r");
    if (!f || !fgets(pin, sizeof pin, f))
        abort();
    fclose(f);
    pin[strcspn(pin, "\n")] = 0;
    CK_SESSION_HANDLE s = session();
    if (p11->C_Login(s, CKU_USER, (CK_BYTE *)pin, strlen(pin)) != CKR_OK)
        abort();
    CK_OBJECT_CLASS class = CKO_PRIVATE_KEY;
    CK_ATTRIBUTE want[] = {{CKA_CLASS, &class, sizeof class}, {CKA_LABEL, argv[4], strlen(argv[4])}};
    CK_ULONG found = 0;
    if (p11->C_FindObjectsInit(s, want, 2) != CKR_OK || p11->C_FindObjects(s, &key, 1, &found) != CKR_OK || found != 1)
        abort();
    p11->C_FindObjectsFinal(s);
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: bench_csign MODULE TOKEN-LABEL PIN-FILE KEY-LABEL THREADS SECONDS\n");
        return 2;
    }
    open_token(argv);
    int threads = atoi(argv[5]);
    pthread_t id[64];
    if (threads < 1 || threads > 64)
        return 2;
    double wall = at(CLOCK_MONOTONIC), cpu = at(CLOCK_PROCESS_CPUTIME_ID);
    for (int i = 0; i < threads; i++)
        pthread_create(&id[i], NULL, sign, NULL);
    double seconds = atof(argv[6]);
    struct timespec ts = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&ts, NULL);
    atomic_store(&stop, 1);
    for (int i = 0; i < threads; i++)
        pthread_join(id[i], NULL);
    wall = at(CLOCK_MONOTONIC) - wall;
    cpu = at(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    double n = (double)atomic_load(&count);
    printf("{\"threads\":%d,\"per_second\":%.0f,\"cpu_us\":%.1f}\n", threads, n / wall, cpu / n * 1e6);
    fflush(stdout);
    _Exit(0);
}
