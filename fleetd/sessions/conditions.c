/* Conditions of attached hosts. Their heartbeats end at a replica, which sends what is not normal to the
 * leader: the problem of the host's own replica, its wrong clock, and another host that has its machine ID.
 * The leader takes it as from a heartbeat, and writes it into the presence; those of the hosts that use its
 * own replica, too. A host that is not listed any more is normal again.
 *
 * PEER_CONDITIONS: u8 version, u64 wall clock of the replica (ms), then up to the end of the frame the
 * conditions of each host (report_hosts.h).
 */

#include "fleetd/sessions/membership_internal.h"

enum {
        CONDITIONS_SAID = 1, /* versions: messages; from KV_LEVEL_VERDICTS on, their codes, too */
        CONDITIONS_CODED,
        CONDITIONS_MAX = 1024,           /* hosts of one frame; others wait until one of these is normal */
        CONDITIONS_AGAIN_MS = 5000,      /* unchanged conditions are sent again */
        CONDITIONS_CLOCK_MS = 10 * 1000, /* a smaller difference is none */
        CONDITIONS_STEP_MS = 5 * 1000,   /* a smaller change of it is none */
};

/* Of one host, at its replica. */
typedef struct Noted {
        Named machine;
        HostCondition condition;
} Noted;

/* -- A replica -- */

static Noted *conditions_get(Membership *m, const char *machine_id) {
        Noted *n = named_find(m->conditions.hosts, machine_id);

        if (n || HASH_COUNT(m->conditions.hosts) >= CONDITIONS_MAX)
                return n;
        n = named_get(&m->conditions.hosts, machine_id, sizeof(Noted));
        if (n)
                snprintf(n->condition.machine, sizeof(n->condition.machine), "%s", machine_id);
        return n;
}

void conditions_note(Membership *m, const char *machine_id, const Verdict *problem, int64_t clock_ms) {
        Noted *n = named_find(m->conditions.hosts, machine_id);
        HostCondition *c;
        int64_t change_ms;

        if (clock_ms < CONDITIONS_CLOCK_MS && clock_ms > -CONDITIONS_CLOCK_MS)
                clock_ms = 0;
        if (!n && (problem->code != VERDICT_NONE || clock_ms != 0))
                n = conditions_get(m, machine_id);
        if (!n)
                return;
        c = &n->condition;
        change_ms = clock_ms - c->clock_ms;
        if ((clock_ms == 0) != (c->clock_ms == 0) || change_ms >= CONDITIONS_STEP_MS ||
            change_ms <= -CONDITIONS_STEP_MS) {
                c->clock_ms = clock_ms;
                m->conditions.changed = true;
        }
        if (!verdict_equal(&c->problem, problem)) {
                c->problem = *problem;
                m->conditions.changed = true;
        }
}

/* Update what is known by the session; false: the host is normal. */
static bool noted_update(Membership *m, Noted *n) {
        HostCondition *c = &n->condition;
        uint8_t was = c->flags;
        bool clone, key;

        if (!peers_accepted(m->peers, c->machine))
                conditions_note(m, c->machine, &(Verdict) {}, 0);
        peers_rejected(m->peers, c->machine, &clone, &key);
        c->flags = (uint8_t) ((c->problem.code != VERDICT_NONE || c->clock_ms != 0 ? CONDITION_IN_USE : 0) |
                              (clone ? CONDITION_CLONE : 0) | (key ? CONDITION_KEY : 0));
        m->conditions.changed |= c->flags != was;
        return c->flags != 0;
}

void conditions_peer_changed(Membership *m, const char *machine_id) {
        bool clone, key;

        peers_rejected(m->peers, machine_id, &clone, &key);
        if (clone || key)
                (void) conditions_get(m, machine_id);
}

void conditions_tick(Membership *m, const KvState *state) {
        Conditions *conditions = &m->conditions;
        uint64_t now_ms = loop_now_ms(m->loop);
        _cleanup_writer_ Writer w = {};
        bool coded = state->level >= KV_LEVEL_VERDICTS && !registry_is_codeless(m->registry);
        HostCondition own;

        write_u8(&w, coded ? CONDITIONS_CODED : CONDITIONS_SAID);
        write_u64(&w, loop_wall_ms(m->loop));
        for (Noted *n = (Noted *) conditions->hosts, *next; n; n = next) {
                next = (Noted *) n->machine.hh.next;
                if (!noted_update(m, n))
                        named_remove(&conditions->hosts, n->machine.name);
                else if (m->leading) {
                        own = n->condition;
                        own.flags &= CONDITION_IN_USE; /* the leader knows the end of its own rejections */
                        senders_take_condition(m, &own, 0);
                } else
                        host_condition_write(&n->condition, coded, &w);
        }
        if (m->leading || !conditions->hosts || w.error < 0 || state->attached ||
            !state->leader_machine_id[0] ||
            (!conditions->changed && now_ms - conditions->sent_ms < CONDITIONS_AGAIN_MS) ||
            peers_send(m->peers, state->leader_machine_id, PEER_CONDITIONS, w.bytes, w.size) < 0)
                return;
        conditions->changed = false;
        conditions->sent_ms = now_ms;
}

/* -- The leader -- */

void conditions_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                         size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r);
        uint64_t wall_ms = read_u64(&r);
        HostCondition c;

        if (!m->leading || r.failed || version < CONDITIONS_SAID || version > CONDITIONS_CODED ||
            wall_ms > INT64_MAX / 4)
                return;
        for (unsigned i = 0; i < CONDITIONS_MAX && host_condition_read(&r, version == CONDITIONS_CODED, &c);
             i++)
                senders_take_condition(m, &c, (int64_t) wall_ms - (int64_t) loop_wall_ms(m->loop));
}
