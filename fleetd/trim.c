#include "fleetd/trim.h"

#include <limits.h>
#include <malloc.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include "base/memory.h"

enum {
        CACHE_BLOCKS = 7,
        CACHE_STEP = 16,
        CACHE_MAX = 1032
}; /* of glibc: blocks of a size, between sizes, the largest size */

typedef struct Cached {
        void *blocks[CACHE_MAX / CACHE_STEP][CACHE_BLOCKS];
} Cached;

static void *cached_free(void *userdata) {
        Cached *cached = userdata;

        for (size_t i = 0; i < ELEMENTS(cached->blocks); i++)
                for (size_t k = 0; k < CACHE_BLOCKS; k++)
                        free(cached->blocks[i][k]);
        return NULL;
}

/* Empties the allocator's cache of this thread, whose blocks keep a page each. It has no call for that, but a
 * thread that ends gives its cache back: allocate as many blocks as the cache holds, and have another thread
 * free them. */
static void cache_return(void) {
        _cleanup_free_ Cached *cached = NEW0(Cached, 1);
        pthread_attr_t attr;
        pthread_t thread;

        if (!cached)
                return;
        for (size_t i = 0; i < ELEMENTS(cached->blocks); i++)
                for (size_t k = 0; k < CACHE_BLOCKS; k++)
                        cached->blocks[i][k] = malloc(CACHE_STEP * (i + 1) + sizeof(void *));

        pthread_attr_init(&attr);
        if (pthread_attr_setstacksize(&attr, MAX(PTHREAD_STACK_MIN, 64 * 1024)) == 0 &&
            pthread_create(&thread, &attr, cached_free, cached) == 0)
                pthread_join(thread, NULL);
        else
                cached_free(cached);
        pthread_attr_destroy(&attr);
}

void trim_init(void) {
        (void) mallopt(M_ARENA_MAX, 1);
        (void) mallopt(M_MMAP_THRESHOLD, TRIM_LARGE);
        (void) mallopt(M_TRIM_THRESHOLD,
                       32 * TRIM_BYTES); /* of the heap's end, at once; the rest by the timer */
}

/* Bytes of this process that are there and belong to no file (proc_pid_statm(5)), beyond those in use: freed
 * pages, and what is not the allocator's. The most there can be if it cannot be read. */
static int64_t unused_bytes(const struct mallinfo2 *info) {
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

/* What the allocator counts as free says nothing of its pages: between two looks they may have been used
 * again, and freed again. What is there beyond what is in use says nothing of what the allocator does not
 * know. */
static void trim_on_timer(void *userdata) {
        Trim *trim = userdata;
        struct mallinfo2 info = mallinfo2();
        int64_t unused = unused_bytes(&info);

        trim->free_bytes = MIN(trim->free_bytes,
                               info.fordblks); /* what is in use again will have to be returned again */
        trim->unused_bytes = MIN(trim->unused_bytes, unused);
        if (info.fordblks >= trim->free_bytes + TRIM_BYTES || unused >= trim->unused_bytes + TRIM_BYTES) {
                cache_return();
                (void) malloc_trim(0);
                info = mallinfo2();
                trim->free_bytes = info.fordblks;
                trim->unused_bytes = unused_bytes(&info);
                trim->n++;
        }
        (void) timer_start(&trim->timer, trim->loop, TRIM_MS);
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
        return timer_start(&trim->timer, loop, TRIM_MS);
}

void trim_stop(Trim *trim) {
        timer_stop(&trim->timer);
        if (trim->loop)
                trim->loop->on_freed = NULL;
        deferred_cancel(&trim->freed);
}
