#include "fleetd/membership/reports.h"

#include <stdio.h>

#include "base/parse.h"

enum { REPORT_COMPLETE = 1, REPORT_KEPT = 2 }; /* flags */

enum {
        SIGN_IN_USE = 1,
        SIGN_SILENT = 2,
        SIGN_KERNEL_SILENT = 4,
        SIGN_CLOSED = 8,
        SIGN_STOPPED = 16,
        SIGN_SHUT_DOWN = 32
};

enum { ID_BYTES = (MACHINE_ID_SIZE - 1) / 2 };

static void id_write(const char *machine_id, Writer *w) {
        for (size_t i = 0; i < ID_BYTES; i++) {
                const char digits[] = { machine_id[2 * i], machine_id[2 * i + 1], 0 };

                write_u8(w, strtoul(digits, NULL, 16));
        }
}

static bool id_read(Reader *r, char ret[static MACHINE_ID_SIZE]) {
        const uint8_t *bytes = read_raw(r, ID_BYTES);

        for (size_t i = 0; bytes && i < ID_BYTES; i++)
                snprintf(ret + 2 * i, 3, "%02x", bytes[i]);
        return bytes;
}

static uint8_t sign_bits(const ReportedSign *s) {
        return (s->in_use ? SIGN_IN_USE : 0) | (s->sign.heartbeat ? 0 : SIGN_SILENT) |
               (s->sign.kernel ? 0 : SIGN_KERNEL_SILENT) | (s->sign.session ? 0 : SIGN_CLOSED) |
               (s->sign.stopped ? SIGN_STOPPED : 0) | (s->sign.shut_down ? SIGN_SHUT_DOWN : 0);
}

static ReportedSign sign_of(uint8_t bits) {
        return (ReportedSign) { .in_use = bits & SIGN_IN_USE,
                                .sign = { .heartbeat = !(bits & SIGN_SILENT),
                                          .kernel = !(bits & SIGN_KERNEL_SILENT),
                                          .session = !(bits & SIGN_CLOSED),
                                          .stopped = bits & SIGN_STOPPED,
                                          .shut_down = bits & SIGN_SHUT_DOWN } };
}

/* -- A replica -- */

typedef struct Told {
        Named machine;
        bool attached, listed; /* in this report */
        uint8_t bits;
        uint8_t normal; /* the bits that the leader assumes of a host that is not listed */
} Told;

void report_begin(Reporter *r, uint64_t session, bool kept, Writer *w) {
        bool complete = r->session != session;

        if (complete)
                named_clear(&r->told);
        r->session = session;
        for (Told *t = (Told *) r->told; t; t = (Told *) t->machine.hh.next)
                t->attached = t->listed = false;
        write_u8(w, REPORT_PROTOCOL);
        write_u8(w, (complete ? REPORT_COMPLETE : 0) | (kept ? REPORT_KEPT : 0));
}

int report_add(Reporter *r, const char *machine_id, const ReportedSign *sign) {
        Told *t = named_find(r->told, machine_id);
        bool known = t;

        if (!t)
                t = named_get(&r->told, machine_id, sizeof(*t));
        if (!t) {
                r->session = 0;
                return -ENOMEM;
        }
        t->attached = true;
        t->bits = sign_bits(sign);
        t->listed = !known || t->bits != t->normal;
        t->normal = t->bits & SIGN_IN_USE;
        return 0;
}

void report_end(Reporter *r, Writer *w) {
        size_t n = 0;

        for (Told *t = (Told *) r->told; t; t = (Told *) t->machine.hh.next)
                n += !t->attached;
        write_varint(w, n);
        for (Told *t = (Told *) r->told, *next; t; t = next) {
                next = (Told *) t->machine.hh.next;
                if (t->attached)
                        continue;
                id_write(t->machine.name, w);
                named_remove(&r->told, t->machine.name);
        }
        for (Told *t = (Told *) r->told; t; t = (Told *) t->machine.hh.next)
                if (t->listed) {
                        id_write(t->machine.name, w);
                        write_u8(w, t->bits);
                }
        if (w->error < 0)
                r->session = 0;
}

void reporter_done(Reporter *r) {
        named_clear(&r->told);
        *r = (Reporter) {};
}

/* -- The leader -- */

typedef struct ReportedHost {
        Named machine;
        uint8_t bits;
} ReportedHost;

typedef struct ReportingReplica {
        Named machine;
        uint64_t session, at_ms; /* of its last report */
        bool kept;
        Named *hosts;
} ReportingReplica;

static int report_take_hosts(ReportingReplica *replica, Reader *r) {
        uint64_t n = read_varint(r);
        char id[MACHINE_ID_SIZE];

        for (ReportedHost *h = (ReportedHost *) replica->hosts; h; h = (ReportedHost *) h->machine.hh.next)
                h->bits &= SIGN_IN_USE;
        for (uint64_t i = 0; i < n && id_read(r, id); i++) {
                ReportedHost *h = named_find(replica->hosts, id);

                if (h)
                        named_remove(&replica->hosts, id);
        }
        while (!r->failed && r->left > 0) {
                ReportedHost *h = id_read(r, id) ? named_get(&replica->hosts, id, sizeof(*h)) : NULL;
                uint8_t bits = read_u8(r);

                if (r->failed)
                        break;
                if (!h)
                        return -ENOMEM;
                h->bits = bits;
        }
        return r->failed ? -EBADMSG : 0;
}

int reports_take(Reports *r, const char *machine_id, uint64_t session, uint64_t now_ms, const void *bytes,
                 size_t size) {
        Reader reader = reader_over(bytes, size);
        uint8_t version = read_u8(&reader), flags = read_u8(&reader);
        ReportingReplica *replica = named_get(&r->replicas, machine_id, sizeof(*replica));
        int e;

        if (!replica)
                return -ENOMEM;
        if (version != REPORT_PROTOCOL || (!(flags & REPORT_COMPLETE) && replica->session != session))
                return -EBADMSG;
        if (flags & REPORT_COMPLETE)
                named_clear(&replica->hosts);
        replica->session = session;
        e = report_take_hosts(replica, &reader);
        if (e < 0) {
                replica->session = 0;
                return e;
        }
        replica->at_ms = now_ms;
        replica->kept = flags & REPORT_KEPT;
        return 0;
}

static void sign_add(LivenessSign *sign, const LivenessSign *other) {
        sign->heartbeat |= other->heartbeat;
        sign->kernel |= other->kernel;
        sign->session |= other->session;
        sign->stopped |= other->stopped;
        sign->shut_down |= other->shut_down;
}

LivenessSign reports_sign(const Reports *r, const char *machine_id, const ReportedSign *own, uint64_t now_ms,
                          bool *ret_attached) {
        LivenessSign any = own ? own->sign : (LivenessSign) {};

        *ret_attached = own;
        if (own && own->in_use)
                return own->sign;
        for (const ReportingReplica *p = (const ReportingReplica *) r->replicas; p;
             p = (const ReportingReplica *) p->machine.hh.next) {
                const ReportedHost *h = named_find(p->hosts, machine_id);
                ReportedSign s = h ? sign_of(h->bits) : (ReportedSign) {};

                if (!h || now_ms - p->at_ms >= REPORT_VALID_MS)
                        continue;
                *ret_attached = true;
                if (!p->kept) /* silence in this tick counts nothing */
                        s.sign.heartbeat = true;
                if (s.in_use)
                        return s.sign;
                sign_add(&any, &s.sign);
        }
        return any;
}

void reports_done(Reports *r) {
        for (ReportingReplica *p = (ReportingReplica *) r->replicas; p;
             p = (ReportingReplica *) p->machine.hh.next)
                named_clear(&p->hosts);
        named_clear(&r->replicas);
}
