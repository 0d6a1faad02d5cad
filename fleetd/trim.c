#include "fleetd/trim.h"

#include <limits.h>
#include <link.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

/* Of glibc: blocks of one size, distance of sizes, largest size. */
enum { CACHE_BLOCKS = 7, CACHE_STEP = 16, CACHE_MAX = 1032 };

typedef struct TrimCache {
        void *blocks[CACHE_MAX / CACHE_STEP][CACHE_BLOCKS];
} TrimCache;

static void *trim_cache_free(void *userdata) {
        TrimCache *cache = userdata;

        for (size_t i = 0; i < ELEMENTS(cache->blocks); i++)
                for (size_t k = 0; k < CACHE_BLOCKS; k++)
                        free(cache->blocks[i][k]);
        return NULL;
}

/* Empty the allocator's cache of this thread, whose blocks retain a page each. glibc has no call for that,
 * but frees the cache of a thread that ends. So allocate as many blocks as the cache holds, and free them in
 * another thread. */
static void trim_cache_return(void) {
        _cleanup_free_ TrimCache *cache = NEW0(TrimCache, 1);
        pthread_attr_t attr;
        pthread_t thread;

        if (!cache)
                return;
        for (size_t i = 0; i < ELEMENTS(cache->blocks); i++)
                for (size_t k = 0; k < CACHE_BLOCKS; k++)
                        cache->blocks[i][k] = malloc(CACHE_STEP * (i + 1) + sizeof(void *));

        pthread_attr_init(&attr);
        if (pthread_attr_setstacksize(&attr, MAX(PTHREAD_STACK_MIN, 64 * 1024)) == 0 &&
            pthread_create(&thread, &attr, trim_cache_free, cache) == 0)
                pthread_join(thread, NULL);
        else
                trim_cache_free(cache);
        pthread_attr_destroy(&attr);
}

void trim_init(void) {
        (void) mallopt(M_ARENA_MAX, 1);
        (void) mallopt(M_MMAP_THRESHOLD, TRIM_LARGE);
        /* Applies to the end of the heap, at once; the timer frees the rest. */
        (void) mallopt(M_TRIM_THRESHOLD, 32 * TRIM_BYTES);
}

/* Return whether the dynamic linker has written to code of this object, which no file contains. */
static bool trim_has_text_relocations(const struct dl_phdr_info *info) {
        for (const ElfW(Phdr) *p = info->dlpi_phdr; p < info->dlpi_phdr + info->dlpi_phnum; p++) {
                if (p->p_type != PT_DYNAMIC)
                        continue;
                for (const ElfW(Dyn) *d = (const void *) (info->dlpi_addr + p->p_vaddr); d->d_tag != DT_NULL;
                     d++)
                        if (d->d_tag == DT_TEXTREL || (d->d_tag == DT_FLAGS && d->d_un.d_val & DF_TEXTREL))
                                return true;
        }
        return false;
}

/* Only segments that were never writable: others have relocated pages, which would be lost. */
static int trim_unmap_object(struct dl_phdr_info *info, size_t size, void *userdata) {
        uintptr_t page_size = sysconf(_SC_PAGESIZE);

        if (trim_has_text_relocations(info))
                return 0;
        for (const ElfW(Phdr) *p = info->dlpi_phdr; p < info->dlpi_phdr + info->dlpi_phnum; p++) {
                uintptr_t begin = info->dlpi_addr + p->p_vaddr, end = begin + p->p_filesz;

                if (p->p_type != PT_LOAD || p->p_flags & PF_W)
                        continue;
                begin -= begin % page_size;
                (void) madvise((void *) begin, end - begin, MADV_DONTNEED); /* of all pages that it begins */
        }
        return 0;
}

void trim_unmap_programs(void) {
        (void) dl_iterate_phdr(trim_unmap_object, NULL);
}

/* Return the resident bytes without a file (proc_pid_statm(5)) that are not in use: freed pages, and memory
 * outside the allocator. INT64_MAX / 2 if they cannot be read. */
static int64_t trim_unused_bytes(const struct mallinfo2 *info) {
        unsigned long resident, shared;
        FILE *stream = fopen("/proc/self/statm", "re");
        int n;

        if (!stream)
                return INT64_MAX / 2;
        n = fscanf(stream, "%*u %lu %lu", &resident, &shared);
        fclose(stream);
        if (n != 2)
                return INT64_MAX / 2;
        return ((int64_t) resident - (int64_t) shared) * sysconf(_SC_PAGESIZE) -
               (int64_t) (info->uordblks + info->hblkhd);
}

/* Two figures decide. The allocator's free bytes do not show pages that were used and freed again in between;
 * the unused bytes do not show memory outside the allocator. */
static void trim_on_timer(void *userdata) {
        Trim *trim = userdata;
        struct mallinfo2 info = mallinfo2();
        int64_t unused = trim_unused_bytes(&info);

        /* Memory in use again has to be returned again. */
        trim->free_bytes = MIN(trim->free_bytes, info.fordblks);
        trim->unused_bytes = MIN(trim->unused_bytes, unused);
        trim->n_checks++;
        if (info.fordblks >= trim->free_bytes + TRIM_BYTES || unused >= trim->unused_bytes + TRIM_BYTES) {
                trim_cache_return();
                (void) malloc_trim(0);
                info = mallinfo2();
                trim->free_bytes = info.fordblks;
                trim->unused_bytes = trim_unused_bytes(&info);
                trim->n++;
                trim->n_checks = 0;
        }
        /* Resident pages do not tell which of them are still used, so all are unmapped now and then. */
        if (trim->n_checks % TRIM_UNMAP_CHECKS == 0)
                trim_unmap_programs();
        (void) timer_start_with_slack(&trim->timer, trim->loop, TRIM_MS, TRIM_SLACK_MS);
}

static void trim_on_freed(void *userdata) {
        Trim *trim = userdata;

        if (trim->timer.due_ms > loop_now_ms(trim->loop) + TRIM_SOON_MS)
                (void) timer_start(&trim->timer, trim->loop, TRIM_SOON_MS);
}

int trim_start(Trim *trim, Loop *loop) {
        *trim = (Trim) { .loop = loop,
                         .timer = TIMER(trim_on_timer, trim),
                         .freed = DEFERRED(trim_on_freed, trim) };
        loop->on_freed = &trim->freed;
        return timer_start_with_slack(&trim->timer, loop, TRIM_MS, TRIM_SLACK_MS);
}

void trim_stop(Trim *trim) {
        timer_stop(&trim->timer);
        if (trim->loop)
                trim->loop->on_freed = NULL;
        deferred_cancel(&trim->freed);
}
