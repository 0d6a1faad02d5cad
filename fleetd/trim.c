#include "fleetd/trim.h"

#include <malloc.h>

#include "base/memory.h"

static void trim_on_timer(void *userdata) {
        Trim *trim = userdata;
        uint64_t free_bytes = mallinfo2().fordblks;

        trim->free_bytes = MIN(trim->free_bytes, free_bytes); /* what is in use again will have to be returned again */
        if (free_bytes >= trim->free_bytes + TRIM_BYTES) {
                (void) malloc_trim(0);
                trim->free_bytes = mallinfo2().fordblks;
                trim->n++;
        }
        (void) timer_start(&trim->timer, trim->loop, TRIM_MS);
}

int trim_start(Trim *trim, Loop *loop) {
        *trim = (Trim) { .loop = loop, .timer = TIMER(trim_on_timer, trim) };
        return timer_start(&trim->timer, loop, TRIM_MS);
}

void trim_stop(Trim *trim) {
        timer_stop(&trim->timer);
}
