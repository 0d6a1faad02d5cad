/* Proposals of hosts without a replica. The host sends them to the replica that it uses (PEER_RELAY), and
 * repeats all without a result to the next one. The replica proposes them as its own, with their origin and
 * number, so that a copy takes effect once; the result comes from its apply, and goes back on the session
 * (PEER_RELAYED).
 *
 * PEER_RELAY: u8 version, u64 origin, u64 acknowledged bound, u8 flags, varint n, and for each u64 number,
 * u64 deadline, blob command, blob principal. PEER_RELAYED: u8 version, u64 origin, u64 cluster time, u8
 * kind, then of RELAYED_ACCEPTED varint n and numbers, of RELAYED_RESULT a number and its result. */

#include "kvstore/propose_internal.h"
#include "kvstore/result_frame.h"
#include "kvstore/serve.h"

enum {
        RELAY_PROTOCOL = 1,
        RELAY_LATER = 1, /* flags */
};

typedef enum RelayedKind { RELAYED_ACCEPTED, RELAYED_RESULT, _RELAYED_MAX } RelayedKind;

/* -- The host -- */

static void relay_add(Writer *items, const Proposal *x) {
        write_u64(items, x->item.number);
        write_u64(items, x->item.deadline_ms);
        write_blob(items, x->item.command, x->item.command_size);
        write_blob(items, (const char *) x->item.command + x->item.command_size, x->principal);
}

static int relay_send(const Proposals *p, const char *machine, const Writer *items, size_t n, bool later) {
        _cleanup_writer_ Writer w = {};

        write_u8(&w, RELAY_PROTOCOL);
        write_u64(&w, p->options.origin);
        write_u64(&w, proposals_acknowledged(p));
        write_u8(&w, later ? RELAY_LATER : 0);
        write_varint(&w, n);
        write_raw(&w, items->bytes, items->size);
        if (w.error < 0 || items->error < 0)
                return -ENOMEM;
        return peers_send(p->options.peers, machine, PEER_RELAY, w.bytes, w.size);
}

static bool relay_pace_is_used(const Proposals *p, Pace *pace, uint64_t burst) {
        return pace_wait_ms(pace, PROPOSE_USERS_PER_SECOND, burst, loop_now_ms(p->options.loop)) > 0;
}

/* Return whether the burst of the users of this host is used up. */
static bool relay_is_exhausted(Proposals *p, uint64_t burst) {
        return relay_pace_is_used(p, &p->relayed, burst);
}

bool proposals_relay_is_exhausted(Proposals *p) {
        return p->attached && peers_session(p->options.peers, p->term) &&
               relay_is_exhausted(p, PROPOSE_USERS_BURST / 2);
}

static_assert(_PEER_PACE_MAX - PEER_PACE_REPORTS == _KV_REPORT_MAX, "each report has a pace");

/* 'paces': of the host; NULL: it is not known. */
static bool host_pace_is_used(const Proposals *p, Pace *paces, unsigned pace) {
        static const struct {
                uint64_t per_second, burst;
        } limits[] = { [PEER_PACE_USERS] = { PROPOSE_HOST_PER_SECOND, PROPOSE_HOST_BURST },
                       [PEER_PACE_OURS] = { PROPOSE_HOST_PER_SECOND, PROPOSE_HOST_BURST },
                       [PEER_PACE_ROWS] = { PROPOSE_HOST_ROWS_PER_SECOND, PROPOSE_HOST_ROWS_BURST },
                       [PEER_PACE_REPORTS] = { PROPOSE_REPORTS_PER_SECOND, PROPOSE_REPORTS_BURST } };
        size_t i = MIN(pace, (unsigned) PEER_PACE_REPORTS);

        return !paces || pace_wait_ms(&paces[pace], limits[i].per_second, limits[i].burst,
                                      loop_now_ms(p->options.loop)) > 0;
}

/* Take one of each report of the set, or none. */
static bool host_takes_reports(const Proposals *p, Pace *paces, unsigned reports) {
        for (KvReport report = 0; report < _KV_REPORT_MAX; report++)
                if (reports & 1u << report && host_pace_is_used(p, paces, PEER_PACE_REPORTS + report))
                        return false;
        for (KvReport report = 0; report < _KV_REPORT_MAX; report++)
                if (reports & 1u << report)
                        pace_take(&paces[PEER_PACE_REPORTS + report], 1);
        return true;
}

static bool host_takes(const Proposals *p, Pace *paces, PeerPace pace, uint64_t weight) {
        if (host_pace_is_used(p, paces, pace))
                return false;
        pace_take(&paces[pace], weight);
        return true;
}

bool proposals_take_write(Proposals *p, const char *machine) {
        if (machine)
                return host_takes(p, peers_paces(p->options.peers, machine), PEER_PACE_USERS, 1);
        if (relay_is_exhausted(p, PROPOSE_USERS_BURST))
                return false;
        pace_take(&p->relayed, 1);
        return true;
}

/* Select the commands of the next frame, in order. Those of this daemon's components do not wait for those of
 * users, nor the other way round. */
static size_t relay_select(Proposals *p, Proposal *picked[static FRAME_COMMANDS_MAX], Writer *items) {
        uint64_t cluster_ms = proposals_known_ms(p);
        Proposal *x;
        size_t n = 0;

        for (x = TAILQ_FIRST(&p->queue); x && n < FRAME_COMMANDS_MAX; x = TAILQ_NEXT(x, entry)) {
                Pace *pace = x->internal ? &p->relayed_ours : &p->relayed;

                if (relay_pace_is_used(p, pace, PROPOSE_USERS_BURST))
                        continue;
                if (n > 0 &&
                    (x->later != picked[0]->later || items->size + x->item.command_size > KV_BATCH_MAX))
                        break;
                proposal_stamp(x, cluster_ms);
                relay_add(items, x);
                pace_take(pace, x->internal ? x->weight : 1);
                picked[n++] = x;
        }
        return n;
}

bool proposals_send_relay(Proposals *p) {
        _cleanup_writer_ Writer items = {};
        PeerSession *session = p->attached ? peers_session(p->options.peers, p->term) : NULL;
        Proposal *picked[FRAME_COMMANDS_MAX];
        Pace before = p->relayed, before_ours = p->relayed_ours;
        size_t n;

        if (!session || proposals_known_ms(p) == 0)
                return false;
        n = relay_select(p, picked, &items);
        if (n == 0 || relay_send(p, peer_handshake(session)->machine_id, &items, n, picked[0]->later) < 0) {
                p->relayed = before; /* nothing was sent */
                p->relayed_ours = before_ours;
                return false;
        }
        for (size_t i = 0; i < n; i++)
                proposal_sent(p, picked[i], p->term);
        return true;
}

/* Return whether another replica is to get the write, too. Not a write of this daemon: its result comes after
 * the keys that it changed, which the replica in use sends. */
static bool relay_is_slow(const Proposal *x, uint64_t now_ns) {
        return (x->state == PROPOSAL_SENT || x->state == PROPOSAL_ACCEPTED) && !x->internal && !x->once &&
               !x->elsewhere && now_ns - x->proposed_ns >= RELAY_SLOW_MS * 1000000ull;
}

void proposals_relay_elsewhere(Proposals *p) {
        const char *machine = kv_other_replica(p->options.store);
        uint64_t now_ns = loop_clock_ns(p->options.loop);
        _cleanup_writer_ Writer items = {};
        Proposal *picked[FRAME_COMMANDS_MAX];
        size_t n = 0;

        for (Proposal *x = machine ? p->own : NULL; x && n < FRAME_COMMANDS_MAX; x = x->hh.next) {
                if (!relay_is_slow(x, now_ns))
                        continue;
                if (n > 0 && items.size + x->item.command_size > KV_BATCH_MAX)
                        break;
                relay_add(&items, x);
                picked[n++] = x;
        }
        if (n == 0 || relay_send(p, machine, &items, n, false) < 0)
                return;
        for (size_t i = 0; i < n; i++) {
                picked[i]->elsewhere = true;
                picked[i]->copies++;
        }
}

/* The replica answers them in any case, as long as the session lasts; a write may wait for the log there. */
static void relay_on_accepted(Proposals *p, Reader *r) {
        uint64_t n = read_varint(r);

        for (uint64_t i = 0; i < n && !r->failed; i++) {
                Proposal *x = proposals_find(p, p->options.origin, read_u64(r));

                if (r->failed || !x || x->state != PROPOSAL_SENT)
                        continue;
                x->state = PROPOSAL_ACCEPTED;
                x->due_ms = loop_now_ms(p->options.loop) + RELAY_WAIT_MS;
                p->any_due = true;
        }
}

static void relay_on_result(Proposals *p, Reader *r) {
        _cleanup_arena_ Arena arena = {};
        uint64_t number = read_u64(r);
        KvResult result;
        Proposal *x;

        x = proposals_find(p, p->options.origin, number);
        if (!x || (x->state != PROPOSAL_SENT && x->state != PROPOSAL_ACCEPTED && x->state != PROPOSAL_QUEUED))
                return;
        if (result_frame_read(r, &arena, &result) < 0) {
                proposals_unknown(p, x);
                return;
        }
        if (result.index > 0 && kv_acknowledge(p->options.store, result.index) < 0)
                return;
        if (result.index == 0 && result.status <= KV_BUSY && x->copies > 1)
                proposals_unknown(p, x); /* this copy had no effect; another one may have one */
        else
                proposals_take_result(p, x, &result);
}

static void relay_on_relayed(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                             size_t size) {
        Proposals *p = userdata;
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r), kind;
        uint64_t origin = read_u64(&r), leader_ms = read_u64(&r);

        kind = read_u8(&r);
        if (r.failed || version != RELAY_PROTOCOL || origin != p->options.origin || !p->attached)
                return;
        /* Before its result, whose time may not be later. */
        kv_take_time(p->options.store, leader_ms);
        if (leader_ms > proposals_known_ms(p)) {
                p->leader_ms = leader_ms;
                p->leader_at_ms = loop_now_ms(p->options.loop);
        }
        if (kind == RELAYED_ACCEPTED && peer_number(session) == p->term)
                relay_on_accepted(p, &r);
        else if (kind == RELAYED_RESULT)
                relay_on_result(p, &r);
}

/* -- The replica -- */

static void relayed_head(const Proposals *p, Writer *w, uint64_t origin, RelayedKind kind) {
        write_u8(w, RELAY_PROTOCOL);
        write_u64(w, origin);
        write_u64(w, proposals_known_ms(p));
        write_u8(w, (uint8_t) kind);
}

/* The slice of the host contains its write when the result arrives. */
static void relayed_result(const Proposals *p, PeerSession *session, uint64_t origin, uint64_t number,
                           const KvResult *result) {
        _cleanup_writer_ Writer w = {};

        relayed_head(p, &w, origin, RELAYED_RESULT);
        write_u64(&w, number);
        result_frame_write(result, &w);
        if (w.error == 0)
                kv_reply_after(p->options.store, session, result->internal ? result->index : 0, PEER_RELAYED,
                               &w);
}

static void relayed_on_done(void *userdata, const KvResult *result) {
        const Proposal *x = userdata;
        PeerSession *session = peers_session(x->relay->options.peers, x->session);

        if (session)
                relayed_result(x->relay, session, x->item.origin, x->item.number, result);
}

/* One command of a frame. */
typedef struct RelayItem {
        PeerSession *session; /* of the host that sends it */
        Proposal like;
        KvBytes principal;
        KvCommand cmd; /* decoded; borrows from 'arena' */
        void *arena;
        uint64_t cost;
        Writer without_rows; /* the command, if the host has written too many rows of the history */
} RelayItem;

/* Take the rows of the command, or all of them from it: the history is common to all hosts, and its oldest
 * rows go first. A change does not fail because of its rows. */
static int relayed_take_rows(Proposals *p, RelayItem *i) {
        KvCommand *writes = i->cmd.op == KV_TXN ? i->cmd.writes : &i->cmd;
        size_t n = i->cmd.op == KV_TXN ? i->cmd.n_writes : 1, n_rows = 0;
        Pace *paces = peers_paces(p->options.peers, peer_handshake(i->session)->machine_id);

        for (size_t k = 0; k < n; k++)
                n_rows += writes[k].note.body.size > 0;
        if (n_rows == 0 || host_takes(p, paces, PEER_PACE_ROWS, n_rows))
                return 0;
        for (size_t k = 0; k < n; k++)
                writes[k].note = (KvNote) {};
        (void) kv_command_encode(&i->cmd, kv_level(p->options.store), &i->without_rows);
        i->like.item.command = i->without_rows.bytes;
        i->like.item.command_size = i->without_rows.size;
        return i->without_rows.error;
}

/* Check the command as one of this host's own, the limit of the host that sends it, and its rights; the
 * leader checks these again. */
static int relayed_check(Proposals *p, RelayItem *i, KvStatus *ret_status, Error *err) {
        const char *machine = peer_handshake(i->session)->machine_id;
        Pace *paces = peers_paces(p->options.peers, machine);
        bool internal;
        int r;

        *ret_status = KV_FORBIDDEN;
        r = kv_command_decode(i->like.item.command, i->like.item.command_size, &i->cmd, &i->arena);
        if (r < 0)
                return error_set(err, r, "the replica cannot read this command: %s", strerror(-r));
        r = kv_command_check(&i->cmd, ret_status, err);
        if (r < 0 || *ret_status != KV_OK)
                return r < 0 ? r : -EINVAL;
        internal = i->cmd.internal;
        *ret_status = KV_BUSY;
        if (!host_takes(p, paces, internal ? PEER_PACE_OURS : PEER_PACE_USERS,
                        internal ? proposal_weight(&i->cmd, i->like.item.command_size) : 1))
                return error_set(err, -EBUSY, "this host writes more than %u times a second",
                                 PROPOSE_HOST_PER_SECOND);
        *ret_status = KV_FORBIDDEN;
        if (p->options.check && kv_level(p->options.store) >= KV_LEVEL_IDENTITY) {
                r = p->options.check(p->options.userdata, NULL, machine, i->principal, &i->cmd, err);
                if (r >= 0 || r == -EBUSY)
                        *ret_status = KV_BUSY;
                if (r < 0)
                        return r;
                if (r > 0 && !host_takes_reports(p, paces, (unsigned) r))
                        return error_set(err, -EBUSY, "this host reports more than once a second");
        }
        TRY(relayed_take_rows(p, i));
        *ret_status = KV_OK;
        return proposals_check(p, &i->cmd, &i->cost, ret_status, err);
}

static int relayed_add(Proposals *p, const RelayItem *i) {
        const char *machine = peer_handshake(i->session)->machine_id;
        const Proposal *like = &i->like;
        KvBytes principal = i->principal;
        size_t size = like->item.command_size;
        char *copy = malloc(size + principal.size), *name = strdup(machine);
        Proposal *x = copy && name ? proposals_insert(p, like->item.origin, like->item.number,
                                                      relayed_on_done, NULL) :
                                     NULL;

        if (!x) {
                free(copy);
                free(name);
                return -ENOMEM;
        }
        memcpy(copy, like->item.command, size);
        if (principal.size > 0)
                memcpy(copy + size, principal.data, principal.size);
        x->item.acknowledged = like->item.acknowledged;
        x->item.deadline_ms = like->item.deadline_ms;
        x->item.command = copy;
        x->item.command_size = size;
        x->principal = principal.size;
        x->machine = name;
        x->relay = p;
        x->userdata = x;
        x->session = peer_number(i->session);
        x->later = like->later;
        p->own_bytes += size;
        proposals_take(p, x, &i->cmd, i->cost);
        return 0;
}

/* Return whether a result will follow. */
static bool relayed_take(Proposals *p, RelayItem *i) {
        uint64_t origin = i->like.item.origin, number = i->like.item.number;
        Proposal *known = proposals_find(p, origin, number);
        KvResult refused = {};
        Error err = {};
        int r;

        if (known) { /* sent again, perhaps on another session; or an origin of another host */
                if (!known->machine || !streq(known->machine, peer_handshake(i->session)->machine_id))
                        return false;
                known->session = peer_number(i->session);
                return true;
        }
        if (HASH_COUNT(p->own) >= PROPOSE_MAX ||
            p->own_bytes + i->like.item.command_size > PROPOSE_BYTES_MAX) {
                refused.status = KV_BUSY;
                refused.cause = kv_string("too many writes wait for an answer on the replica of this host");
                relayed_result(p, i->session, origin, number, &refused);
                return false;
        }
        r = relayed_check(p, i, &refused.status, &err);
        if (r == 0)
                r = relayed_add(p, i);
        if (r < 0 && r != -ENOMEM) { /* without memory, the host sends it again */
                refused.cause = kv_string(error_text(&err, r));
                relayed_result(p, i->session, origin, number, &refused);
        }
        writer_done(&i->without_rows);
        free(i->arena);
        return r == 0;
}

static void relay_on_relay(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                           size_t size) {
        Proposals *p = userdata;
        _cleanup_writer_ Writer w = {}, numbers = {};
        Reader r = reader_over(payload, size);
        uint8_t version = read_u8(&r), flags;
        Proposal like = { .item.origin = read_u64(&r) };
        uint64_t n, accepted = 0;

        like.item.acknowledged = read_u64(&r);
        flags = read_u8(&r);
        like.later = flags & RELAY_LATER;
        n = read_varint(&r);
        if (r.failed || version != RELAY_PROTOCOL || p->attached || n > FRAME_COMMANDS_MAX ||
            like.item.origin == 0 || like.item.origin == p->options.origin || like.item.acknowledged == 0)
                return;
        for (uint64_t i = 0; i < n; i++) {
                RelayItem item = { .session = session, .like = like };
                KvBatchItem *command = &item.like.item;

                command->number = read_u64(&r);
                command->deadline_ms = read_u64(&r);
                command->command = read_blob(&r, KV_COMMAND_MAX, &command->command_size);
                item.principal.data = read_blob(&r, KV_PRINCIPAL_MAX, &item.principal.size);
                if (r.failed || command->number < command->acknowledged || command->deadline_ms == 0)
                        break;
                if (relayed_take(p, &item)) {
                        write_u64(&numbers, command->number);
                        accepted++;
                }
        }
        relayed_head(p, &w, like.item.origin, RELAYED_ACCEPTED);
        write_varint(&w, accepted);
        write_raw(&w, numbers.bytes, numbers.size);
        if (numbers.error == 0 && w.error == 0)
                (void) peer_reply(session, PEER_RELAYED, w.bytes, w.size);
}

static const PeerFrameType frame_types[] = {
        { PEER_RELAY, relay_on_relay },
        { PEER_RELAYED, relay_on_relayed },
};

void proposals_relay_init(Proposals *p) {
        peers_register(p->options.peers, frame_types, ELEMENTS(frame_types), p);
}

void proposals_relay_done(Proposals *p) {
        peers_unregister(p->options.peers, frame_types, ELEMENTS(frame_types));
}
