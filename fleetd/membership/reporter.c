/* The replica's side of reports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fleetd/membership/report_hosts.h"
#include "fleetd/membership/reports.h"

ReporterHost *reporter_host(Reporter *r, const char *machine_id) {
        ReporterHost *h = TABLE_FIND(r->hosts, machine_id);

        if (h)
                return h;
        h = NEW0(ReporterHost, 1);
        if (!h)
                return NULL;
        snprintf(h->machine, sizeof(h->machine), "%s", machine_id);
        HASH_ADD_STR(r->hosts, machine, h);
        if (!TABLE_ADDED(h)) {
                free(h);
                return NULL;
        }
        return h;
}

void reporter_changed(Reporter *r, const char *machine_id) {
        ReporterHost *h = TABLE_FIND(r->hosts, machine_id);

        if (h)
                h->look = true;
}

static void reporter_end(ReporterHost *h, const LivenessSign *sign) {
        h->end = (uint8_t) (SIGN_SILENT | SIGN_CLOSED | (sign->kernel ? 0 : SIGN_KERNEL_SILENT) |
                            (sign->stopped ? SIGN_STOPPED : 0) | (sign->shut_down ? SIGN_SHUT_DOWN : 0));
        h->ended_ticks = 1;
        h->silent_ticks = 0;
}

void reporter_remove(Reporter *r, const char *machine_id) {
        ReporterHost *h = TABLE_FIND(r->hosts, machine_id);

        if (h && h->ended_ticks == 0)
                reporter_end(h, &(LivenessSign) {});
        if (h)
                h->heartbeat = false;
}

void reporter_again(Reporter *r) {
        r->session = 0;
}

static void reporter_drop(Reporter *r, ReporterHost *h) {
        HASH_DEL(r->hosts, h);
        free(h);
}

/* One report, while it is written. */
typedef struct Report {
        const ReportHead *head;
        LivenessSign (*look)(void *userdata, const char *machine_id);
        void *userdata;
        bool complete;
        Writer gone, listed;
        size_t n_gone;
} Report;

/* Return the signs of a host, or end it. */
static uint8_t report_look(const Report *report, ReporterHost *h, bool heartbeat) {
        LivenessSign sign = report->look(report->userdata, h->machine);

        h->look = false;
        if (!sign.session)
                reporter_end(h, &sign);
        return (uint8_t) ((heartbeat || (!h->in_use && h->silent_ticks < REPORT_IDLE_TICKS) ? 0 :
                                                                                              SIGN_SILENT) |
                          (sign.kernel ? 0 : SIGN_KERNEL_SILENT));
}

static void report_add(Report *report, ReporterHost *h) {
        bool heartbeat = h->heartbeat;
        uint8_t bits = 0;

        h->heartbeat = false;
        if (heartbeat)
                h->silent_ticks = 0;
        else if (report->head->kept)
                h->silent_ticks++;
        if (h->ended_ticks == 0 &&
            (h->look || (!heartbeat && (h->in_use || h->silent_ticks >= REPORT_IDLE_TICKS))))
                bits = report_look(report, h, heartbeat);
        if (h->ended_ticks > 0) {
                if (h->told || report->complete) {
                        report_host_write(h->machine, h->end, &report->gone);
                        report->n_gone++;
                }
                h->told = false;
                return;
        }
        if (bits & SIGN_SILENT || report->complete || !h->told || h->told_in_use != h->in_use)
                report_host_write(h->machine,
                                  (uint8_t) ((bits & SIGN_SILENT ? bits : 0) | (h->in_use ? SIGN_IN_USE : 0)),
                                  &report->listed);
        h->told = true;
        h->told_in_use = h->in_use;
}

void reporter_write(Reporter *r, const ReportHead *head,
                    LivenessSign (*look)(void *userdata, const char *machine_id), void *userdata, Writer *w) {
        Report report = { .head = head,
                          .look = look,
                          .userdata = userdata,
                          .complete = head->session == 0 || r->session != head->session ||
                                      r->term != head->term };

        for (ReporterHost *h = r->hosts, *next; h; h = next) {
                next = h->hh.next;
                report_add(&report, h);
                if (h->ended_ticks > 0 && ++h->ended_ticks > REPORT_ENDED_TICKS)
                        reporter_drop(r, h);
        }
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
        for (ReporterHost *h = r->hosts, *next; h; h = next) {
                next = h->hh.next;
                reporter_drop(r, h);
        }
        *r = (Reporter) {};
}
