/* The replica's side of reports. */

#include "fleetd/sessions/reports.h"

static int reporter_grow(Reporter *r) {
        size_t n = r->n + 1;

        if (GROW(r->slots, r->capacity.slots, n) < 0 || GROW(r->contact, r->capacity.contact, n) < 0 ||
            GROW(r->steady, r->capacity.steady, n) < 0 || GROW(r->answers, r->capacity.answers, n) < 0)
                return -ENOMEM;
        return 0;
}

static ReporterHost *reporter_host(Reporter *r, const char *machine_id) {
        ReporterHost *h = reporter_find(r, machine_id);

        if (h)
                return h;
        h = reporter_grow(r) == 0 ? NEW0(ReporterHost, 1) : NULL;
        if (!h)
                return NULL;
        snprintf(h->machine, sizeof(h->machine), "%s", machine_id);
        HASH_ADD_STR(r->hosts, machine, h);
        if (!TABLE_ADDED_OR_FREED(h))
                return NULL;
        h->slot = r->n++;
        r->slots[h->slot] = h;
        r->contact[h->slot] = REPORTER_CHANGED | REPORT_IDLE_TICKS; /* its session has just begun */
        r->steady[h->slot] = REPORTER_UNSTEADY;
        r->answers[h->slot] = (ReporterAnswer) {};
        return h;
}

int reporter_slot(Reporter *r, const char *machine_id, uint64_t session, uint32_t *slot) {
        const ReporterHost *h;

        if (*slot < r->n && r->answers[*slot].session == session)
                return 0;
        h = reporter_host(r, machine_id);
        if (!h)
                return -ENOMEM;
        *slot = h->slot;
        if (r->answers[*slot].session != session)
                r->answers[*slot] = (ReporterAnswer) { .session = session };
        return 0;
}

bool reporter_answers(Reporter *r, uint32_t slot, uint64_t now_ms, uint64_t after_ms) {
        ReporterAnswer *last = &r->answers[slot];

        if (last->ms > 0 && now_ms - last->ms < after_ms)
                return false;
        last->ms = now_ms;
        return true;
}

void reporter_heartbeat_changes(Reporter *r, uint32_t slot, uint8_t signs) {
        ReporterHost *h = r->slots[slot];

        r->n_in_use += (signs & SIGN_IN_USE) - (h->signs & SIGN_IN_USE);
        if (h->signs != signs || signs & SIGN_ALONE || h->ended_ticks > 0 || !h->told)
                r->contact[slot] |= REPORTER_CHANGED;
        h->signs = signs;
        h->ended_ticks = 0;
        r->steady[slot] = REPORTER_UNSTEADY;
}

void reporter_changed(Reporter *r, const char *machine_id) {
        ReporterHost *h = reporter_find(r, machine_id);

        if (h)
                r->contact[h->slot] |= REPORTER_LOOK;
}

static void reporter_end(Reporter *r, ReporterHost *h, const LivenessSign *sign) {
        h->end = (uint8_t) (SIGN_SILENT | SIGN_CLOSED | (sign->kernel ? 0 : SIGN_KERNEL_SILENT) |
                            (sign->stopped ? SIGN_STOPPED : 0) | (sign->shut_down ? SIGN_SHUT_DOWN : 0));
        h->ended_ticks = 1;
        r->steady[h->slot] = REPORTER_UNSTEADY;
}

void reporter_remove(Reporter *r, const char *machine_id) {
        ReporterHost *h = reporter_find(r, machine_id);

        if (!h)
                return;
        if (h->ended_ticks == 0)
                reporter_end(r, h, &(LivenessSign) {});
        r->contact[h->slot] = 0;
}

void reporter_again(Reporter *r) {
        r->session = 0;
}

/* The last host gets its slot. */
static void reporter_drop(Reporter *r, ReporterHost *h) {
        r->n_in_use -= h->signs & SIGN_IN_USE;
        r->n--;
        r->slots[h->slot] = r->slots[r->n];
        r->slots[h->slot]->slot = h->slot;
        r->contact[h->slot] = r->contact[r->n];
        r->steady[h->slot] = r->steady[r->n];
        r->answers[h->slot] = r->answers[r->n];
        HASH_DEL(r->hosts, h);
        free(h);
}

/* One report, while it is written. */
typedef struct Report {
        Reporter *reporter;
        const ReportHead *head;
        LivenessSign (*look)(void *userdata, const char *machine_id);
        void *userdata;
        bool complete;
        Writer gone, listed;
        size_t n_gone;
} Report;

/* Return the signs of a host, or end it. */
static uint8_t report_look(const Report *report, ReporterHost *h, bool contact) {
        LivenessSign sign = report->look(report->userdata, h->machine);

        if (!sign.session)
                reporter_end(report->reporter, h, &sign);
        return (uint8_t) (contact ? 0 : SIGN_SILENT | (sign.kernel ? 0 : SIGN_KERNEL_SILENT));
}

static void report_add(Report *report, ReporterHost *h, uint8_t contact) {
        bool silent = (contact & REPORTER_TICKS) == 0;
        uint8_t bits = h->signs;

        if (h->ended_ticks == 0 && (silent || contact & REPORTER_LOOK))
                bits |= report_look(report, h, !silent);
        if (h->ended_ticks > 0) {
                if (h->ended_ticks == 1 || report->complete) { /* also one that was never listed */
                        report_host_write(h->machine, h->end, &report->gone);
                        report->n_gone++;
                }
                h->told = false;
                return;
        }
        if (silent || report->complete || !h->told || h->told_signs != h->signs || h->signs & SIGN_ALONE)
                report_host_write(h->machine, bits, &report->listed);
        h->told = true;
        h->told_signs = h->signs;
        report->reporter->steady[h->slot] = h->signs & SIGN_ALONE ? REPORTER_UNSTEADY : h->signs;
}

/* Of the reports for which one heartbeat is enough, if there are several, those that do not count end
 * nothing.
 */
static uint8_t contact_after(const ReporterHost *h, uint8_t contact, bool kept) {
        uint8_t ticks = contact & REPORTER_TICKS;

        return ticks > 0 && (kept || report_ticks(h->signs) == 1) ? ticks - 1 : ticks;
}

/* Count a tick of the eight hosts before slot 'end' if all are in contact, and nothing has changed. */
static bool reporter_pass_eight(Reporter *r, uint32_t end) {
        const uint64_t ones = UINT64_MAX / UINT8_MAX;
        uint64_t contacts;

        if (end < sizeof(contacts))
                return false;
        memcpy(&contacts, &r->contact[end - sizeof(contacts)], sizeof(contacts));
        if ((contacts | (contacts - ones)) & ones * (uint8_t) ~REPORTER_TICKS) /* a borrow: one is 0 */
                return false;
        contacts -= ones;
        memcpy(&r->contact[end - sizeof(contacts)], &contacts, sizeof(contacts));
        return true;
}

static void reporter_add_hosts(Reporter *r, Report *report) {
        bool all = report->complete || !report->head->kept;

        for (uint32_t i = r->n; i-- > 0;) {
                ReporterHost *h;

                if (!all && reporter_pass_eight(r, i + 1)) {
                        i -= sizeof(uint64_t) - 1;
                        continue;
                }
                if (r->contact[i] - 1u < REPORTER_TICKS && !all) { /* in contact, and nothing has changed */
                        r->contact[i]--;
                        continue;
                }
                h = r->slots[i];
                report_add(report, h, r->contact[i]);
                r->contact[i] = contact_after(h, r->contact[i], report->head->kept);
                if (h->ended_ticks > 0 && ++h->ended_ticks > REPORT_ENDED_TICKS)
                        reporter_drop(r, h);
        }
}

void reporter_write(Reporter *r, const ReportHead *head,
                    LivenessSign (*look)(void *userdata, const char *machine_id), void *userdata, Writer *w) {
        Report report = { .reporter = r,
                          .head = head,
                          .look = look,
                          .userdata = userdata,
                          .complete = head->session == 0 || r->session != head->session ||
                                      r->term != head->term };

        reporter_add_hosts(r, &report);
        r->session = head->session;
        r->term = head->term;
        r->tick++;
        write_u8(w, REPORT_PROTOCOL);
        write_u8(w, (report.complete ? REPORT_COMPLETE : 0) | (head->kept ? REPORT_KEPT : 0));
        write_u64(w, head->term);
        write_varint(w, r->tick);
        write_varint(w, report.n_gone);
        write_raw(w, report.gone.chars, report.gone.size);
        write_raw(w, report.listed.chars, report.listed.size);
        if (w->error < 0 || report.gone.error < 0 || report.listed.error < 0) {
                w->error = -ENOMEM;
                reporter_again(r);
        }
        writer_done(&report.gone);
        writer_done(&report.listed);
}

void reporter_done(Reporter *r) {
        while (r->n > 0)
                reporter_drop(r, r->slots[r->n - 1]);
        free(r->slots);
        free(r->contact);
        free(r->steady);
        free(r->answers);
        *r = (Reporter) { .tick = r->tick }; /* a leader rejects a tick of the past on the same session */
}
