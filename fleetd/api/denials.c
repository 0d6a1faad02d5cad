#include "fleetd/api/denials.h"

#include <stdio.h>

#include "base/log.h"
#include "base/text.h"

static void denial_flush(Denial *row, uint64_t now_ms) {
        if (row->n_more > 0)
                log_notice(NO_FIELDS, "denied %s: %llu more requests, the last one %s", row->principal,
                           (unsigned long long) row->n_more, row->last);
        row->n_more = 0;
        row->logged_ms = now_ms;
}

static void denials_on_timer(void *userdata) {
        Denials *d = userdata;
        uint64_t now_ms = loop_now_ms(d->loop);
        bool counts = false;

        for (size_t i = 0; i < DENIALS_MAX; i++)
                if (d->rows[i].n_more > 0 && now_ms - d->rows[i].logged_ms >= DENIALS_MS)
                        denial_flush(&d->rows[i], now_ms);
                else
                        counts |= d->rows[i].n_more > 0;
        if (counts)
                (void) timer_start(&d->timer, d->loop, DENIALS_MS);
}

void denials_init(Denials *d, Loop *loop) {
        d->loop = loop;
        d->timer = TIMER(denials_on_timer, d);
}

void denials_done(Denials *d) {
        timer_stop(&d->timer);
        for (size_t i = 0; i < DENIALS_MAX; i++)
                denial_flush(&d->rows[i], 0);
}

/* Return the row of the principal, or the one whose line is the oldest, for this principal. */
static Denial *denials_row(Denials *d, const char *principal, uint64_t now_ms) {
        Denial *oldest = &d->rows[0];

        for (size_t i = 0; i < DENIALS_MAX; i++) {
                if (streq(d->rows[i].principal, principal))
                        return &d->rows[i];
                if (!d->rows[i].principal[0] || d->rows[i].logged_ms < oldest->logged_ms)
                        oldest = &d->rows[i];
        }
        denial_flush(oldest, now_ms);
        snprintf(oldest->principal, sizeof(oldest->principal), "%s", principal);
        oldest->logged_ms = 0;
        return oldest;
}

void denials_add(Denials *d, const char *principal, const char *method, const char *path) {
        uint64_t now_ms = loop_now_ms(d->loop);
        Denial *row = denials_row(d, principal, now_ms);
        _cleanup_text_ Text what = {};

        text_printf(&what, "%.16s ", method);
        text_append_printable_bytes(&what, path, strnlen(path, DENIED_WHAT_SIZE / 2), false);
        if (row->logged_ms > 0 && now_ms - row->logged_ms < DENIALS_MS) {
                row->n_more++;
                snprintf(row->last, sizeof(row->last), "%s", what.chars ?: method);
                if (!timer_armed(&d->timer))
                        (void) timer_start(&d->timer, d->loop, DENIALS_MS);
                return;
        }
        denial_flush(row, now_ms);
        log_notice(NO_FIELDS, "denied %s: %s", principal, what.chars ?: method);
}
