#include "fleetd/api/denials.h"

#include "base/log.h"

static LogFields denial_fields(const char *principal) {
        return (LogFields) { .principal = principal, .message_id = history_message_id(HISTORY_DENIED) };
}

/* Return the size of the part of a path that names what was requested, without a key or a name: "/v2/keys".
 */
static size_t denied_route(const char *path) {
        size_t size = 0;

        for (unsigned slashes = 0; size < DENIED_WHAT_SIZE / 2; size++) {
                slashes += path[size] == '/';
                if (slashes == (starts_with(path, "/fleet/") ? 4 : 3) ||
                    !(path[size] == '/' || path[size] == '_' || (path[size] >= 'a' && path[size] <= 'z') ||
                      (path[size] >= '0' && path[size] <= '9')))
                        break;
        }
        return size;
}

static void denials_note(Denials *d, const Principal *principal, const char *text, const char *method,
                         const char *path) {
        char reason[DENIED_WHAT_SIZE];
        uint64_t now_ms = loop_now_ms(d->loop);

        if (!d->registry || principal->kind == PRINCIPAL_ANONYMOUS || principal->kind == PRINCIPAL_NONE ||
            (d->noted_ms > 0 && now_ms - d->noted_ms < DENIALS_NOTED_MS))
                return;
        d->noted_ms = now_ms;
        snprintf(reason, sizeof(reason), "%.16s %.*s", method, (int) denied_route(path), path);
        registry_note(d->registry,
                      &(HistoryNote) { .kind = HISTORY_DENIED,
                                       .machine = registry_machine_id(d->registry),
                                       .user = text,
                                       .reason = reason },
                      1);
}

static void denial_flush(Denial *row, uint64_t now_ms) {
        if (row->n_more > 0)
                log_notice(denial_fields(row->principal), "denied %s: %llu more requests, the last one %s",
                           row->principal, (unsigned long long) row->n_more, row->last);
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

void denials_init(Denials *d, Loop *loop, Registry *registry) {
        d->loop = loop;
        d->registry = registry;
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

void denials_add(Denials *d, const Principal *sender, const char *host, const char *method,
                 const char *path) {
        Principal from = { .kind = PRINCIPAL_MACHINE };
        char principal[PRINCIPAL_TEXT_SIZE], row_principal[PRINCIPAL_TEXT_SIZE];
        bool stated; /* by another host, which may have made it up */
        uint64_t now_ms = loop_now_ms(d->loop);
        _cleanup_text_ Text what = {};
        Denial *row;

        if (host)
                snprintf(from.machine, sizeof(from.machine), "%s", host);
        else
                from = *sender;
        sender = sender ?: &from;
        stated = host && sender->kind == PRINCIPAL_USER;
        principal_text(sender, principal);
        row = denials_row(d, principal_text(&from, row_principal), now_ms);
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
        log_notice(denial_fields(stated ? row_principal : principal), "denied %s%s%s: %s", principal,
                   stated ? ", as stated by " : "", stated ? row_principal : "", what.chars ?: method);
        denials_note(d, sender, principal, method, path);
}
