/* What a small process must look after itself.
 *
 * OpenSSL's code is some megabytes, of which relaying needs little: what starting and handshakes touched is given back
 * when handshakes have ceased. The pages are clean and the kernel's cache keeps them, so the next handshake finds them
 * again at the price of some soft page faults (measured: a tenth of a millisecond, once). */
#include "proxy/internal.h"
#include <link.h>
#include <malloc.h>
#include <sys/mman.h>
#include <unistd.h>

#define SECURE_BYTES (128 * 1024)

void proxy_memory_setup(void)
{
    mallopt(M_ARENA_MAX, 1);
    /* OpenSSL takes and leaves a record's memory all the time: not to be fetched from the kernel each time. */
    mallopt(M_TRIM_THRESHOLD, 256 * 1024);
    mallopt(M_TOP_PAD, 64 * 1024);
    mallopt(M_MMAP_THRESHOLD, 1024 * 1024);
    OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG, NULL);
    /* Private numbers, ours and those of handshakes under way, live in memory that is locked and wiped: room for some
     * thousands. Without the right to lock memory it is still kept out of core files. */
    if (CRYPTO_secure_malloc_init(SECURE_BYTES, 32) == 0)
        log_warn("no locked memory for private keys; raise the memlock limit (LimitMEMLOCK=)", NULL);
}

/* Segments that were never writable hold nothing of ours. (What the loader wrote, it wrote into the writable ones,
 * also where they are read-only since.) */
static int give_back(struct dl_phdr_info *i, size_t size, void *arg)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int k = 0; k < i->dlpi_phnum; k++) {
        const ElfW(Phdr) *p = &i->dlpi_phdr[k];
        if (p->p_type != PT_LOAD || (p->p_flags & PF_W))
            continue;
        uintptr_t from = (i->dlpi_addr + p->p_vaddr) & ~(page - 1), to = (i->dlpi_addr + p->p_vaddr + p->p_filesz) & ~(page - 1);
        if (to > from)
            madvise((void *)from, to - from, MADV_DONTNEED);
    }
    return 0;
}

void memory_give_back(void)
{
    malloc_trim(64 * 1024);
    dl_iterate_phdr(give_back, NULL);
}
