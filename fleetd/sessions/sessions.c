/* Which replicas serve the attached hosts, for people. The leader has that from reports. Another replica asks
 * the leader when a client wants it, and keeps the answer for a moment: nothing is written.
 *
 * PEER_SESSIONS: without bytes, a request to the leader. The answer is u8 version, then up to the end hosts
 * as in a report (report_hosts.h): an attached host, and after it the replicas to which it has a session. */

#include "fleetd/sessions/membership_internal.h"

enum {
        SESSIONS_PROTOCOL = 1,
        SESSIONS_VALID_MS = 1000, /* the pages of one list need one answer */
        SESSIONS_ASK_MS = 500,    /* between two requests */
};

/* What an entry of the answer is. */
enum { SESSIONS_HOST, SESSIONS_IN_USE, SESSIONS_IDLE };

typedef struct HostSessions {
        Named machine;
        char in_use[MACHINE_ID_SIZE], idle[MACHINE_ID_SIZE]; /* "": none */
} HostSessions;

static void sessions_add(void *userdata, const char *machine_id, const char *in_use, const char *idle) {
        Membership *m = userdata;
        HostSessions *h = named_get(&m->sessions.hosts, machine_id, sizeof(HostSessions));

        if (!h)
                return;
        snprintf(h->in_use, sizeof(h->in_use), "%s", in_use);
        snprintf(h->idle, sizeof(h->idle), "%s", idle);
}

static void sessions_begin(Membership *m) {
        named_clear(&m->sessions.hosts);
        m->sessions.known = true;
        m->sessions.known_ms = loop_now_ms(m->loop);
}

int membership_ask_sessions(Membership *m) {
        SessionsKnown *s = &m->sessions;
        uint64_t now_ms = loop_now_ms(m->loop);
        KvState state;

        if (s->known && now_ms - s->known_ms < SESSIONS_VALID_MS)
                return 0;
        if (m->leading) {
                sessions_begin(m);
                reports_each_session(&m->reporting.reports, sessions_add, m);
                return 0;
        }
        kv_state(m->store, &state);
        s->known = false;
        if (state.attached || !state.leader_machine_id[0])
                return -ENOTCONN;
        if (s->asked_ms > 0 && now_ms - s->asked_ms < SESSIONS_ASK_MS)
                return -EAGAIN;
        s->asked_ms = now_ms;
        return peers_send(m->peers, state.leader_machine_id, PEER_SESSIONS, NULL, 0) < 0 ? -ENOTCONN :
                                                                                           -EAGAIN;
}

/* Release what no list has needed for a moment: it is large in a large cluster. */
void sessions_tick(Membership *m) {
        if (!m->sessions.known || loop_now_ms(m->loop) - m->sessions.known_ms < SESSIONS_VALID_MS)
                return;
        named_clear(&m->sessions.hosts);
        m->sessions.known = false;
}

const char *membership_session(const Membership *m, const char *machine_id, bool in_use) {
        const HostSessions *h = m->sessions.known ? named_find(m->sessions.hosts, machine_id) : NULL;
        const char *replica = h ? in_use ? h->in_use : h->idle : "";

        return replica[0] ? replica : NULL;
}

/* -- Frames -- */

static void sessions_answer(Membership *m, PeerSession *session) {
        _cleanup_writer_ Writer w = {};

        (void) membership_ask_sessions(m);
        write_u8(&w, SESSIONS_PROTOCOL);
        for (const HostSessions *h = (const HostSessions *) m->sessions.hosts; h; h = h->machine.hh.next) {
                report_host_write(h->machine.name, SESSIONS_HOST, &w);
                if (h->in_use[0])
                        report_host_write(h->in_use, SESSIONS_IN_USE, &w);
                if (h->idle[0])
                        report_host_write(h->idle, SESSIONS_IDLE, &w);
        }
        if (w.error == 0)
                (void) peer_reply(session, PEER_SESSIONS, w.bytes, w.size);
}

void sessions_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                       size_t size) {
        Membership *m = userdata;
        Reader r = reader_over(payload, size);
        char id[MACHINE_ID_SIZE];
        HostSessions *h = NULL;
        KvState state;
        uint8_t what;

        if (m->leading && size == 0)
                sessions_answer(m, session);
        kv_state(m->store, &state);
        if (m->leading || read_u8(&r) != SESSIONS_PROTOCOL ||
            !streq(peer_handshake(session)->machine_id, state.leader_machine_id))
                return;
        sessions_begin(m);
        while (report_host_read(&r, id, &what)) {
                if (what == SESSIONS_HOST)
                        h = named_get(&m->sessions.hosts, id, sizeof(HostSessions));
                else if (h && (what == SESSIONS_IN_USE || what == SESSIONS_IDLE))
                        memcpy(what == SESSIONS_IN_USE ? h->in_use : h->idle, id, sizeof(id));
        }
}
