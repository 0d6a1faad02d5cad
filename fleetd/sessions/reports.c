/* The leader's side of reports. */
#include "fleetd/sessions/reports.h"

/* A session of a host with a replica, as that one reports it. */
typedef struct ReportLink {
        ReportedHost *host;
        ReportingReplica *replica;
        uint8_t bits;
        uint8_t n_silent;    /* reports without contact, the last ones; at most REPORT_CLONE_SILENT_TICKS */
        bool in_list;        /* of the replica's 'listed' */
        uint64_t since_tick; /* when it was reported first */
        uint64_t listed;     /* number of the last report that lists it */
        LIST_ENTRY(ReportLink) of_host;
        LIST_ENTRY(ReportLink) of_listed;
        LIST_ENTRY(ReportLink) of_replica;
} ReportLink;

LIST_HEAD(ReportLinks, ReportLink);

struct ReportedHost {
        UT_hash_handle hh;
        char machine[MACHINE_ID_SIZE];
        bool unattached; /* in the list of these */
        bool in_use;     /* the decider is the replica that it uses */
        bool doubled;    /* in the list of these */
        bool contested;  /* meanwhile, both had contact in the same ticks */
        uint8_t end;     /* signs at the end of its last session; 0: not known */
        struct ReportLinks links;
        ReportLink *decider;   /* whose signs count; NULL: the host is unattached */
        uint64_t single_tick;  /* 1 + the tick at which it had one session only; 0: it has two, or none yet */
        uint64_t clone_tick;   /* when a clone of it was found last; 0: never */
        uint64_t used_tick;    /* the last tick at which the decider was the replica that it uses */
        uint64_t end_tick;     /* when the end of its last session was reported */
        uint64_t returned;     /* Reports.n_graces when it was attached last */
        unsigned double_ticks; /* while it is doubled: with contact of both, the last ones */
        LIST_ENTRY(ReportedHost) of_unattached;
        LIST_ENTRY(ReportedHost) of_doubled;
};

struct ReportingReplica {
        char machine[MACHINE_ID_SIZE];
        uint64_t session; /* of its last report, as the next; 0: the next one must be complete */
        uint64_t tick, at_ms;
        uint64_t n_reports;
        bool kept;
        bool valid; /* it has reported recently */
        struct ReportLinks links, listed;
        size_t n_links;
        UT_hash_handle hh;
};

/* -- Signs -- */

static LivenessSign link_sign(const Reports *r, const ReportLink *link) {
        bool in_use = link->bits & SIGN_IN_USE;

        return (LivenessSign) { .heartbeat = !(link->bits & SIGN_SILENT),
                                .indirect = link->bits & SIGN_ALONE,
                                .kernel = !(link->bits & SIGN_KERNEL_SILENT),
                                .session = true,
                                .ticks = report_ticks(link->bits),
                                .moving = !in_use && r->grace_ticks > 0 };
}

static LivenessSign unattached_sign(const Reports *r, const ReportedHost *h) {
        bool known = h->end != 0;

        return (LivenessSign) { .kernel = known && !(h->end & SIGN_KERNEL_SILENT),
                                .stopped = h->end & SIGN_STOPPED,
                                .shut_down = h->end & SIGN_SHUT_DOWN,
                                .unattached = true,
                                .moving = r->grace_ticks > 0 };
}

static LivenessSign host_sign(const Reports *r, const ReportedHost *h) {
        return h->decider ? link_sign(r, h->decider) : unattached_sign(r, h);
}

/* 0: it counts for nothing. */
static unsigned link_weight(const ReportLink *link) {
        if (!link->replica->valid)
                return 0;
        return 1u + (link->bits & SIGN_IN_USE ? 4 : 0) + (link->bits & SIGN_SILENT ? 0 : 2);
}

/* A replica without contact with the leader sends its heartbeats to several others. */
static bool link_is_used(const ReportLink *link) {
        return link->bits & SIGN_IN_USE && !(link->bits & SIGN_ALONE) && link_weight(link) > 0;
}

static bool host_has_known_clone(const Reports *r, const ReportedHost *h) {
        return h->clone_tick != 0 && r->n_ticks - h->clone_tick < REPORT_CLONE_KNOWN_TICKS;
}

static size_t host_count(const ReportedHost *h, bool (*counts)(const ReportLink *link)) {
        const ReportLink *link;
        size_t n = 0;

        LIST_FOREACH(link, &h->links, of_host)
                n += counts(link);
        return n;
}

/* Whether the session may be that of a clone, which returns now and then. When the host has just left the
 * replica that it used, no such session counts until the report of the one that it uses now is due. */
static bool link_is_doubtful(const Reports *r, const ReportLink *link) {
        const ReportedHost *h = link->host;

        return link != h->decider && host_has_known_clone(r, h) && link->since_tick >= h->clone_tick &&
               !(link->bits & SIGN_ALONE) && !(h->decider && link_is_used(h->decider)) &&
               r->n_ticks - h->used_tick <= REPORT_CLONE_AGAIN_TICKS;
}

static bool host_has_doubtful(const Reports *r, const ReportedHost *h) {
        const ReportLink *link;

        LIST_FOREACH(link, &h->links, of_host)
                if (link_is_doubtful(r, link))
                        return true;
        return false;
}

/* Whether the signs of the decider count although those of another session in use say more. A short silence
 * of one of two hosts with one machine ID is no move: its clone would count from then on, and the host be
 * rejected. */
static bool host_keeps_decider(const Reports *r, const ReportedHost *h) {
        return h->decider && (h->contested || host_has_known_clone(r, h)) && link_is_used(h->decider) &&
               h->decider->n_silent < REPORT_CLONE_SILENT_TICKS;
}

/* The session in use decides, also if it is silent. After a move, the former replica may not know yet that
 * its session is not in use any more: then contact decides. Of two equal ones, that which began first does:
 * the other one may be that of a clone. The list begins with the last one. */
static ReportLink *host_choose(const Reports *r, const ReportedHost *h) {
        ReportLink *best = h->decider && link_weight(h->decider) > 0 ? h->decider : NULL, *link;
        unsigned weight, most = best ? link_weight(best) : 0;

        if (host_keeps_decider(r, h))
                return h->decider;
        LIST_FOREACH(link, &h->links, of_host) {
                weight = link_is_doubtful(r, link) ? 0 : link_weight(link);
                if (weight > most || (weight > 0 && weight == most && best != h->decider)) {
                        best = link;
                        most = weight;
                }
        }
        return best;
}

static void host_emit_sign(Reports *r, const ReportedHost *h, bool late) {
        LivenessSign sign = host_sign(r, h);

        (void) r->on_sign(r->userdata, h->machine, &sign, late);
}

static void host_set_unattached(Reports *r, ReportedHost *h, bool unattached) {
        if (unattached == h->unattached)
                return;
        h->unattached = unattached;
        if (unattached)
                LIST_INSERT_HEAD(&r->unattached, h, of_unattached);
        else {
                LIST_REMOVE(h, of_unattached);
                if (h->returned != r->n_graces)
                        r->returned_tick = r->n_ticks;
                h->returned = r->n_graces;
        }
        r->n_unattached += unattached ? 1 : -1;
}

/* All sessions of a daemon that ends do so within one tick of each replica. An end without a sign of the
 * kernel says nothing: it may be older than the one that another replica reports. */
static void host_note_end(const Reports *r, ReportedHost *h, uint8_t end) {
        bool says = end != 0 && !(end & SIGN_KERNEL_SILENT);

        if (!(end & SIGN_ANNOUNCED) && (!says || h->end & SIGN_ANNOUNCED))
                return;
        h->end = end;
        h->end_tick = r->n_ticks;
}

/* The end of a session says nothing about the host that had another one for longer, unless the host announced
 * that its daemon ends. */
static void host_check_end(const Reports *r, ReportedHost *h) {
        if (!(h->end & SIGN_ANNOUNCED) && r->n_ticks - h->end_tick > REPORT_ENDS_TICKS)
                h->end = 0;
}

static bool link_counts(const ReportLink *link) {
        return link_weight(link) > 0;
}

/* A host whose only session ends dials again: it still has one. */
static void host_set_sessions(Reports *r, ReportedHost *h, size_t n) {
        if (n == 1 && h->single_tick == 0) {
                h->single_tick = r->n_ticks + 1;
                r->n_single++;
        } else if (n > 1 && h->single_tick > 0) {
                h->single_tick = 0;
                r->n_single--;
        }
}

static void host_set_doubled(Reports *r, ReportedHost *h, bool doubled) {
        if (doubled == h->doubled)
                return;
        h->doubled = doubled;
        h->contested = false;
        h->double_ticks = 0;
        if (doubled)
                LIST_INSERT_HEAD(&r->doubled, h, of_doubled);
        else
                LIST_REMOVE(h, of_doubled);
}

/* Decide again whose signs count. A host whose replica in use has ended, or whose last session, has a whole
 * period to reach another one. */
static void host_update(Reports *r, ReportedHost *h) {
        bool was_in_use = h->in_use, was_unattached = h->unattached;
        ReportLink *before = h->decider;
        LivenessSign sign;

        if (h->in_use)
                h->used_tick = r->n_ticks;
        h->decider = host_choose(r, h);
        h->in_use = h->decider && h->decider->bits & SIGN_IN_USE;
        if (host_has_doubtful(r, h))
                host_set_doubled(r, h, true); /* the next tick looks again */
        host_set_unattached(r, h, !h->decider);
        host_set_sessions(r, h, host_count(h, link_counts));
        if (h->decider == before && h->unattached == was_unattached)
                return;
        if (h->unattached && !was_unattached)
                host_check_end(r, h);
        sign = host_sign(r, h);
        sign.restart = (h->unattached && !was_unattached) || (was_in_use && !h->in_use);
        sign.other = true;
        (void) r->on_sign(r->userdata, h->machine, &sign, true);
}

/* -- Clones -- */

static bool link_has_contact(const ReportLink *link) {
        return link_is_used(link) && !(link->bits & SIGN_SILENT);
}

static void reports_count_doubled(Reports *r, bool late) {
        for (ReportedHost *h = LIST_FIRST(&r->doubled), *next; h; h = next) {
                next = LIST_NEXT(h, of_doubled);
                if (!h->decider || !link_is_used(h->decider))
                        host_update(r, h);
                if (host_has_doubtful(r, h))
                        h->double_ticks = 0;
                else if (host_count(h, link_is_used) < 2)
                        host_set_doubled(r, h, false);
                else if (host_count(h, link_has_contact) < 2)
                        h->double_ticks = 0;
                else
                        h->double_ticks += !late;
                h->contested |= h->double_ticks >= REPORT_CLONE_AGAIN_TICKS;
        }
}

void reports_each_clone(Reports *r,
                        void (*each)(void *userdata, const char *machine_id, const char *replica,
                                     uint64_t session),
                        void *userdata) {
        const ReportLink *link;
        ReportedHost *h;

        LIST_FOREACH(h, &r->doubled, of_doubled) {
                if (h->double_ticks <
                    (host_has_known_clone(r, h) ? REPORT_CLONE_AGAIN_TICKS : REPORT_CLONE_TICKS))
                        continue;
                h->double_ticks = 0;
                h->clone_tick = r->n_ticks;
                LIST_FOREACH(link, &h->links, of_host)
                        if (link != h->decider && link_has_contact(link))
                                each(userdata, h->machine, link->replica->machine, link->replica->session);
        }
}

void reports_read_clones(const void *bytes, size_t size, void (*each)(void *userdata, const char *machine_id),
                         void *userdata) {
        Reader r = reader_over(bytes, size);
        uint8_t version = read_u8(&r), bits;
        char id[MACHINE_ID_SIZE];

        while (version == REPORT_PROTOCOL && report_host_read(&r, id, &bits))
                each(userdata, id);
}

/* -- Hosts and their sessions -- */

static ReportedHost *host_new(Reports *r, const char *machine_id) {
        ReportedHost *h = NEW0(ReportedHost, 1);

        if (!h)
                return NULL;
        snprintf(h->machine, sizeof(h->machine), "%s", machine_id);
        HASH_ADD_STR(r->hosts, machine, h);
        if (!TABLE_ADDED_OR_FREED(h))
                return NULL;
        host_set_unattached(r, h, true);
        return h;
}

static void link_free(ReportLink *link) {
        LIST_REMOVE(link, of_host);
        LIST_REMOVE(link, of_replica);
        if (link->in_list)
                LIST_REMOVE(link, of_listed);
        if (link->host->decider == link)
                link->host->decider = NULL;
        link->replica->n_links--;
        free(link);
}

static void host_free(Reports *r, ReportedHost *h) {
        ReportLink *link;

        while ((link = LIST_FIRST(&h->links)))
                link_free(link);
        h->returned = r->n_graces; /* it does not return */
        host_set_unattached(r, h, false);
        host_set_doubled(r, h, false);
        r->n_single -= h->single_tick > 0;
        HASH_DEL(r->hosts, h);
        free(h);
}

static ReportLink *host_link(const ReportedHost *h, const ReportingReplica *replica) {
        ReportLink *link;

        LIST_FOREACH(link, &h->links, of_host)
                if (link->replica == replica)
                        return link;
        return NULL;
}

static ReportLink *link_get(Reports *r, ReportingReplica *replica, const char *machine_id) {
        ReportedHost *h = TABLE_FIND(r->hosts, machine_id);
        ReportLink *link = h ? host_link(h, replica) : NULL;

        if (link)
                return link;
        if (!h) {
                h = host_new(r, machine_id);
                if (!h)
                        return NULL;
                h->returned = r->n_graces; /* it was not expected: the others wait for nothing */
        }
        link = NEW0(ReportLink, 1);
        if (!link)
                return NULL;
        link->host = h;
        link->replica = replica;
        link->since_tick = r->n_ticks;
        h->end = 0;
        LIST_INSERT_HEAD(&h->links, link, of_host);
        LIST_INSERT_HEAD(&replica->links, link, of_replica);
        replica->n_links++;
        return link;
}

/* A session of the host with this replica has ended, 'now' or some ticks ago, with these signs; 0: not known.
 */
static void host_end(Reports *r, ReportedHost *h, const ReportingReplica *replica, bool now, uint8_t end) {
        ReportLink *link = host_link(h, replica);

        if (!link && host_count(h, link_counts) > 0 && !now)
                return; /* another one has a session, or has told later */
        if (link)
                link_free(link);
        host_note_end(r, h, end);
        if (link)
                host_update(r, h);
        else if (h->unattached)
                host_emit_sign(r, h, true);
}

int reports_expect(Reports *r, const char *machine_id) {
        return TABLE_FIND(r->hosts, machine_id) || host_new(r, machine_id) ? 0 : -ENOMEM;
}

void reports_forget(Reports *r, const char *machine_id) {
        ReportedHost *h = TABLE_FIND(r->hosts, machine_id);

        if (h)
                host_free(r, h);
}

/* -- Reports -- */

static ReportingReplica *reporting_replica_get(Reports *r, const char *machine_id) {
        ReportingReplica *p = TABLE_FIND(r->replicas, machine_id);

        if (p)
                return p;
        p = NEW0(ReportingReplica, 1);
        if (!p)
                return NULL;
        snprintf(p->machine, sizeof(p->machine), "%s", machine_id);
        HASH_ADD_STR(r->replicas, machine, p);
        if (!TABLE_ADDED_OR_FREED(p))
                return NULL;
        return p;
}

typedef struct ReportFrame {
        bool complete, kept;
        uint64_t tick, n_gone;
        Reader hosts;
} ReportFrame;

/* 0, -ESTALE or -EBADMSG. */
static int report_read(const void *bytes, size_t size, uint64_t term, ReportFrame *ret) {
        Reader reader = reader_over(bytes, size);
        uint8_t version = read_u8(&reader), flags = read_u8(&reader);
        uint64_t its_term = read_u64(&reader);

        *ret = (ReportFrame) { .complete = flags & REPORT_COMPLETE,
                               .kept = flags & REPORT_KEPT,
                               .tick = read_varint(&reader),
                               .n_gone = read_varint(&reader) };
        if (reader.failed || version != REPORT_PROTOCOL || reader.left % REPORT_HOST_BYTES != 0 ||
            ret->n_gone > reader.left / REPORT_HOST_BYTES)
                return -EBADMSG;
        ret->hosts = reader;
        return its_term == term ? 0 : -ESTALE;
}

/* Hosts of the frame that are not attached any more, then those that it lists. */
static int reporting_replica_take_hosts(Reports *r, ReportingReplica *p, ReportFrame *frame) {
        char id[MACHINE_ID_SIZE];
        ReportedHost *h;
        ReportLink *link;
        uint8_t bits;

        for (uint64_t i = 0; i < frame->n_gone && report_host_read(&frame->hosts, id, &bits); i++) {
                h = TABLE_FIND(r->hosts, id);
                if (h)
                        host_end(r, h, p, !frame->complete, bits);
        }
        while (report_host_read(&frame->hosts, id, &bits)) {
                link = link_get(r, p, id);
                if (!link)
                        return -ENOMEM;
                link->bits = bits;
                link->n_silent = bits & SIGN_SILENT ? MIN(link->n_silent + 1u, REPORT_CLONE_SILENT_TICKS) : 0;
                link->listed = p->n_reports;
                if (!link->in_list)
                        LIST_INSERT_HEAD(&p->listed, link, of_listed);
                link->in_list = true;
                if (host_count(link->host, link_is_used) > 1)
                        host_set_doubled(r, link->host, true);
                if (p->n_links > REPORT_HOSTS_MAX)
                        return -EBADMSG;
        }
        return 0;
}

/* A complete report has all hosts: the others are gone. */
static void reporting_replica_drop_unlisted(Reports *r, ReportingReplica *p) {
        for (ReportLink *link = LIST_FIRST(&p->links), *next; link; link = next) {
                next = LIST_NEXT(link, of_replica);
                if (link->listed != p->n_reports)
                        host_end(r, link->host, p, false, 0);
        }
}

static void reporting_replica_update_all(Reports *r, const ReportingReplica *p) {
        ReportLink *link;

        LIST_FOREACH(link, &p->links, of_replica)
                host_update(r, link->host);
}

/* The signs that count: of those listed now, and contact of those that were listed before. */
static void reporting_replica_emit_signs(Reports *r, ReportingReplica *p) {
        for (ReportLink *link = LIST_FIRST(&p->listed), *next; link; link = next) {
                next = LIST_NEXT(link, of_listed);
                if (link->listed != p->n_reports) {
                        LIST_REMOVE(link, of_listed);
                        link->in_list = false;
                        link->n_silent = 0;
                }
                host_update(r, link->host);
                if (link->host->decider == link)
                        host_emit_sign(r, link->host, !p->kept);
        }
}

int reports_take(Reports *r, const char *replica, uint64_t session, uint64_t term, uint64_t now_ms,
                 const void *bytes, size_t size) {
        ReportingReplica *p;
        ReportFrame frame;
        ReportLink *link;
        bool was_valid;
        int e = TRY(report_read(bytes, size, term, &frame));

        p = reporting_replica_get(r, replica);
        if (!p)
                return -ENOMEM;
        if (p->session == session ? frame.tick <= p->tick : !frame.complete)
                return -EBADMSG;
        if (!frame.complete && frame.tick != p->tick + 1)
                return -EBADMSG;
        was_valid = p->valid;
        p->session = session;
        p->tick = frame.tick;
        p->n_reports++;
        p->kept = frame.kept;
        p->at_ms = now_ms;
        p->valid = true;
        LIST_FOREACH(link, &p->listed, of_listed)
                link->bits &= SIGN_IN_USE | SIGN_ALONE | SIGN_RARE;
        e = reporting_replica_take_hosts(r, p, &frame);
        if (e < 0) {
                p->session = 0;
                p->valid = was_valid;
                return e;
        }
        if (frame.complete)
                reporting_replica_drop_unlisted(r, p);
        if (!was_valid)
                reporting_replica_update_all(r, p);
        reporting_replica_emit_signs(r, p);
        return 0;
}

/* -- Ticks of the leader -- */

static unsigned reports_count_replicas(const Reports *r) {
        unsigned n = 0;

        for (const ReportingReplica *p = r->replicas; p; p = p->hh.next)
                n += p->valid;
        return n;
}

/* The time in which the replicas that report can admit all unattached hosts. */
static unsigned reports_grace(const Reports *r) {
        unsigned n = reports_count_replicas(r);
        uint64_t ms;

        ms = REPORT_GRACE_MS + r->n_unattached * 1000 / (REPORT_ADMISSION * MAX(n, 1u));
        return (unsigned) (MIN(ms, (uint64_t) REPORT_GRACE_MAX_MS) / LIVENESS_TICK_MS);
}

/* Hosts that may have been on their way while their idle sessions were silent: decide at once, and not with
 * the next report. */
static void reports_end_grace(Reports *r) {
        for (ReportingReplica *p = r->replicas; p; p = p->hh.next) {
                ReportLink *link;

                LIST_FOREACH(link, &p->listed, of_listed)
                        if (link->host->decider == link)
                                host_emit_sign(r, link->host, true);
        }
}

/* A replica whose processor is busy admits fewer hosts than its limit. While hosts return, the others may be
 * on their way: the last tick of the grace does not end. */
static bool reports_hold_grace(const Reports *r) {
        return r->n_ticks - r->returned_tick <= REPORT_RETURN_TICKS &&
               r->n_ticks - r->grace_tick < REPORT_GRACE_MAX_MS / LIVENESS_TICK_MS;
}

void reports_tick(Reports *r, uint64_t now_ms, bool late) {
        bool ended = r->begins, had_grace = r->grace_ticks > 0;

        r->begins = false;
        r->n_ticks++;
        for (ReportingReplica *p = r->replicas; p; p = p->hh.next) {
                if (p->valid && late)
                        p->at_ms = now_ms;
                if (!p->valid ||
                    now_ms - p->at_ms + LIVENESS_TICK_MS / 2 < REPORT_VALID_MS) /* the nearest tick */
                        continue;
                p->valid = false;
                ended = true;
                reporting_replica_update_all(r, p);
        }
        reports_count_doubled(r, late);
        if (reports_count_replicas(r) < 2)
                r->several_tick = r->n_ticks + 1;
        if (ended) {
                r->n_graces++;
                r->grace_tick = r->n_ticks;
        }
        if (r->grace_ticks > (reports_hold_grace(r) ? 1 : 0) && !late)
                r->grace_ticks--;
        r->grace_ticks = ended ? MAX(reports_grace(r), r->grace_ticks) :
                                 MIN(reports_grace(r), r->grace_ticks);
        if (had_grace && r->grace_ticks == 0)
                reports_end_grace(r);
        for (ReportedHost *h = LIST_FIRST(&r->unattached), *next; h; h = next) {
                LivenessSign sign = unattached_sign(r, h);

                next = LIST_NEXT(h, of_unattached);
                if (!r->on_sign(r->userdata, h->machine, &sign, late) && host_count(h, link_counts) == 0)
                        host_free(r, h); /* a session that counts soon may be reported once only */
        }
}

bool reports_sign(const Reports *r, const char *machine_id, LivenessSign *ret) {
        const ReportedHost *h = TABLE_FIND(r->hosts, machine_id);

        if (!h || !h->decider)
                return false;
        *ret = link_sign(r, h->decider);
        return true;
}

void reports_each_session(const Reports *r,
                          void (*each)(void *userdata, const char *machine_id, const char *in_use,
                                       const char *idle),
                          void *userdata) {
        for (const ReportedHost *h = r->hosts; h; h = h->hh.next) {
                const char *in_use = h->in_use ? h->decider->replica->machine : "", *idle = "";
                const ReportLink *link;

                LIST_FOREACH(link, &h->links, of_host)
                        if (link_counts(link) && !streq(link->replica->machine, in_use))
                                idle = link->replica->machine;
                if (in_use[0] || idle[0])
                        each(userdata, h->machine, in_use, idle);
        }
}

bool reports_any_single(const Reports *r) {
        return r->n_single > 0 && r->several_tick <= r->n_ticks;
}

uint64_t reports_single_ticks(const Reports *r, const char *machine_id) {
        const ReportedHost *h = reports_any_single(r) ? TABLE_FIND(r->hosts, machine_id) : NULL;

        return h && h->single_tick > 0 ? r->n_ticks + 1 - MAX(h->single_tick, r->several_tick) : 0;
}

/* -- Lifetime -- */

void reports_begin(Reports *r, ReportSign *on_sign, void *userdata) {
        reports_done(r);
        *r = (Reports) { .begins = true, .on_sign = on_sign, .userdata = userdata };
}

void reports_done(Reports *r) {
        for (ReportedHost *h = r->hosts, *next; h; h = next) {
                next = h->hh.next;
                host_free(r, h);
        }
        for (ReportingReplica *p = r->replicas, *next; p; p = next) {
                next = p->hh.next;
                HASH_DEL(r->replicas, p);
                free(p);
        }
        *r = (Reports) {};
}
