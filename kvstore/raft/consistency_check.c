#include "kvstore/raft/consistency_check.h"

#include "base/log.h"
#include "kvstore/raft/replica_internal.h"
#include "kvstore/raft/transfer.h"

enum {
        ASK_MS = 1000,   /* between requests for the leader's tree */
        DOUBT_MS = 5000, /* a difference waits so long for the reports that would decide it */
        OWN_MAX = 8,     /* reports of this host that a verdict may name */
        ROWS_MAX = 8,    /* indexes that the leader compares at a time */
};

typedef enum CompareKind {
        COMPARE_REPORT,
        COMPARE_VERDICT,
        COMPARE_ASK,
        COMPARE_REPORT_TAKEN, /* of a tree that another host made, before a majority agreed with it */
        _COMPARE_KIND_MAX,
} CompareKind;
typedef enum Verdict { VERDICT_SAME, VERDICT_DIFFERS, VERDICT_UNDECIDED, _VERDICT_MAX } Verdict;

typedef struct Report {
        uint64_t id, index, hash; /* id: of the replica */
        bool taken;    /* the tree is a copy of a leader's: equality with that one proves nothing */
        bool notified; /* the host was notified of 'verdict' */
        Verdict verdict;
} Report;

/* The reports for one index, on the leader. */
typedef struct Row {
        uint64_t index;    /* 0: none */
        uint64_t doubt_ms; /* since when reports differ without a majority; 0: they do not */
        Report reports[RAFT_SERVERS_MAX];
        size_t n;
} Row;

struct ConsistencyCheck {
        Replica *replica;
        Report noted[2]; /* of the open transaction: the last one counts */
        size_t n_noted;
        Report own[OWN_MAX];
        size_t n_own, n_sent; /* in all; own[i % OWN_MAX] */
        Row rows[ROWS_MAX];
        uint64_t term;                           /* of the rows */
        uint64_t differs_index, undecided_index; /* 0: no */
        bool taken; /* this tree came from a leader, and no majority has agreed with it since */
        Deferred send;
        Timer rest, ask, doubt;
};

static void consistency_send(ConsistencyCheck *c, uint64_t to, CompareKind kind, uint64_t index,
                             uint64_t value) {
        _cleanup_writer_ Writer w = {};

        replica_write_head(c->replica, &w, to);
        write_u8(&w, (uint8_t) kind);
        write_u64(&w, replica_term(c->replica));
        write_u64(&w, index);
        write_u64(&w, value);
        (void) replica_send(c->replica, to, PEER_TREE, &w); /* the next index replaces a lost report */
}

/* -- Verdicts on this host -- */

static bool consistency_has_reported(const ConsistencyCheck *c, uint64_t index) {
        for (size_t i = c->n_own > OWN_MAX ? c->n_own - OWN_MAX : 0; i < c->n_own; i++)
                if (c->own[i % OWN_MAX].index == index)
                        return true;
        return false;
}

/* A leader cannot receive a tree: transfer leadership first. */
static void consistency_on_ask(void *userdata) {
        ConsistencyCheck *c = userdata;
        Replica *p = c->replica;

        (void) timer_start(&c->ask, p->loop, ASK_MS);
        if (replica_is_leader(p))
                (void) replica_transfer(p, 0);
        else if (replica_leader(p) != 0 && p->log)
                consistency_send(c, replica_leader(p), COMPARE_ASK,
                                 MAX(raft_log_first_index(p->log), UINT64_C(2)) - 1, 0);
}

static void consistency_take_verdict(ConsistencyCheck *c, uint64_t index, Verdict verdict) {
        if (!consistency_has_reported(c, index) || c->differs_index > 0)
                return;

        switch (verdict) {
        case VERDICT_SAME:
                c->taken = false;
                if (c->undecided_index == 0 || index < c->undecided_index)
                        return;
                log_notice(NO_FIELDS, "a majority of the replicas agrees again, at entry %" PRIu64, index);
                c->undecided_index = 0;
                break;
        case VERDICT_UNDECIDED:
                if (c->undecided_index == 0)
                        log_error(NO_FIELDS,
                                  "trees of the replicas diverged at entry %" PRIu64
                                  " without a majority; no tree is replaced and no log is compacted until "
                                  "there is "
                                  "one",
                                  index);
                c->undecided_index = MAX(index, c->undecided_index);
                replica_probe(c->replica); /* a host whose disk changed the tree detects that by itself */
                break;
        case VERDICT_DIFFERS:
                log_error(NO_FIELDS,
                          "tree of this host diverged from the majority at entry %" PRIu64
                          "; requesting the tree of the leader",
                          index);
                c->differs_index = index;
                (void) timer_start(&c->ask, c->replica->loop, 0);
                break;
        case _VERDICT_MAX:
                return;
        }
        replica_notify_later(c->replica, RAFT_CHANGED_STATE);
}

/* -- Verdicts of the leader -- */

static Row *consistency_row(ConsistencyCheck *c, uint64_t index) {
        Row *oldest = &c->rows[0];

        for (Row *row = c->rows; row < c->rows + ROWS_MAX; row++) {
                if (row->index == index)
                        return row;
                if (row->index < oldest->index)
                        oldest = row;
        }
        if (index < oldest->index)
                return NULL; /* all other reports are newer */
        *oldest = (Row) { .index = index };
        return oldest;
}

static bool consistency_counts(const RaftServer *server, size_t n_voters) {
        return server->role == RAFT_ROLE_VOTER || (n_voters < 3 && server->role == RAFT_ROLE_STANDBY);
}

/* Find the hash that a majority reports. Voters decide; with fewer than three of them the standbys count,
 * too: one voter is no majority of two trees. A tree that was taken from a leader does not count in addition
 * to the leader's, unless all have reported the same hash. True: *ret is that hash. Else *ret_hope: missing
 * reports may still decide. */
static bool consistency_find_majority(const ConsistencyCheck *c, const Row *row, bool same, uint64_t *ret,
                                      bool *ret_hope) {
        const RaftServers *servers = raft_core_servers(c->replica->core);
        size_t n_voters = 0, n = 0, n_reported = 0, most = 0;

        for (size_t i = 0; i < servers->n; i++)
                n_voters += servers->items[i].role == RAFT_ROLE_VOTER;
        for (size_t i = 0; i < servers->n; i++)
                n += consistency_counts(&servers->items[i], n_voters);

        for (size_t i = 0; i < row->n; i++) {
                size_t equal = 0;

                for (size_t k = 0; k < row->n; k++)
                        for (size_t s = 0; s < servers->n; s++)
                                if (servers->items[s].id == row->reports[k].id &&
                                    consistency_counts(&servers->items[s], n_voters)) {
                                        equal += row->reports[k].hash == row->reports[i].hash &&
                                                 !row->reports[k].taken;
                                        n_reported += i == 0;
                                }
                if (equal > most) {
                        most = equal;
                        *ret = row->reports[i].hash;
                }
        }
        *ret_hope = most + (n - n_reported) > n / 2;
        if (most > n / 2 || !same || n_reported < n)
                return most > n / 2;
        *ret = row->reports[0].hash;
        return true;
}

static void consistency_notify(ConsistencyCheck *c, Row *row, Report *report, Verdict verdict) {
        if (report->notified && report->verdict == verdict)
                return;
        report->notified = true;
        report->verdict = verdict;
        if (report->id == raft_core_id(c->replica->core))
                consistency_take_verdict(c, row->index, verdict);
        else
                consistency_send(c, report->id, COMPARE_VERDICT, row->index, verdict);
}

static void consistency_decide(ConsistencyCheck *c, Row *row) {
        uint64_t right = 0, now = loop_now_ms(c->replica->loop);
        bool same = true, hope = false, decided;

        for (size_t i = 1; i < row->n; i++)
                same &= row->reports[i].hash == row->reports[0].hash;
        decided = consistency_find_majority(c, row, same, &right, &hope);
        if (same || decided)
                row->doubt_ms = 0;
        else if (row->doubt_ms == 0) {
                row->doubt_ms = now;
                (void) timer_start(&c->doubt, c->replica->loop, DOUBT_MS);
        }
        if (!decided && (same || (hope && now < row->doubt_ms + DOUBT_MS)))
                return;
        for (size_t i = 0; i < row->n; i++)
                if (decided)
                        consistency_notify(c, row, &row->reports[i],
                                           row->reports[i].hash == right ? VERDICT_SAME : VERDICT_DIFFERS);
                else
                        consistency_notify(c, row, &row->reports[i], VERDICT_UNDECIDED);
}

static void consistency_on_doubt(void *userdata) {
        ConsistencyCheck *c = userdata;

        if (!replica_is_leader(c->replica) || c->term != replica_term(c->replica))
                return;
        for (size_t i = 0; i < ROWS_MAX; i++)
                if (c->rows[i].index > 0)
                        consistency_decide(c, &c->rows[i]);
}

static void consistency_take_report(ConsistencyCheck *c, uint64_t from, uint64_t index, uint64_t hash,
                                    bool taken) {
        Report report = { .id = from, .index = index, .hash = hash, .taken = taken };
        Row *row;

        if (c->term != replica_term(c->replica)) {
                memset(c->rows, 0, sizeof(c->rows));
                c->term = replica_term(c->replica);
        }
        row = consistency_row(c, index);
        if (!row)
                return;
        for (size_t i = 0; i < row->n; i++)
                if (row->reports[i].id == from) {
                        if (row->reports[i].hash != hash)
                                row->reports[i] = report; /* of a tree that was replaced */
                        consistency_decide(c, row);
                        return;
                }
        if (row->n == RAFT_SERVERS_MAX)
                return;
        row->reports[row->n++] = report;
        consistency_decide(c, row);
}

/* -- Reports -- */

static void consistency_on_send(void *userdata) {
        ConsistencyCheck *c = userdata;
        Replica *p = c->replica;
        uint64_t leader = replica_leader(p);

        if (leader == 0 || c->differs_index > 0)
                return;
        if (c->n_sent + OWN_MAX < c->n_own)
                c->n_sent = c->n_own - OWN_MAX;
        for (; c->n_sent < c->n_own; c->n_sent++) {
                const Report *report = &c->own[c->n_sent % OWN_MAX];

                if (replica_is_leader(p))
                        consistency_take_report(c, raft_core_id(p->core), report->index, report->hash,
                                                c->taken);
                else
                        consistency_send(c, leader, c->taken ? COMPARE_REPORT_TAKEN : COMPARE_REPORT,
                                         report->index, report->hash);
        }
}

static void consistency_add_own(ConsistencyCheck *c, Report report) {
        if (consistency_has_reported(c, report.index))
                return;
        c->own[c->n_own++ % OWN_MAX] = report;
        loop_defer(c->replica->loop, &c->send);
}

static void consistency_on_rest(void *userdata) {
        ConsistencyCheck *c = userdata;
        Replica *p = c->replica;
        _cleanup_(tree_abortp) TreeTxn *txn = NULL;
        Report report = {};
        TreeMeta meta;

        if (!replica_is_open(p) || replica_is_rebuilding(p) ||
            tree_begin_read(replica_live_tree(p), &txn) < 0)
                return;
        if (tree_meta(txn, &meta) < 0 || tree_kept_hash(txn, &report.hash) < 0 || meta.applied == 0)
                return;
        report.index = meta.applied;
        consistency_add_own(c, report);
}

void consistency_applied(ConsistencyCheck *c, TreeTxn *txn, uint64_t index) {
        uint64_t every = c->replica->options.compare_every;
        Report report = { .index = index };
        int r;

        if (index % (every > 0 ? every : COMPARE_EVERY) != 0)
                return;
        r = tree_kept_hash(txn, &report.hash);
        assert(r == 0); /* the transaction holds the record that it has read */
        c->noted[c->n_noted < ELEMENTS(c->noted) ? c->n_noted++ : ELEMENTS(c->noted) - 1] = report;
}

void consistency_committed(ConsistencyCheck *c, bool committed) {
        for (size_t i = 0; committed && i < c->n_noted; i++)
                consistency_add_own(c, c->noted[i]);
        c->n_noted = 0;
        if (committed && !timer_armed(&c->rest))
                (void) timer_start(&c->rest, c->replica->loop, COMPARE_REST_MS);
}

void consistency_on_flush(ConsistencyCheck *c, unsigned changed) {
        if (!(changed & RAFT_CHANGED_LEADER) || c->n_own == 0)
                return;
        c->n_sent = c->n_own - 1; /* report the last one to the new leader, too */
        loop_defer(c->replica->loop, &c->send);
}

void consistency_on_frame(void *userdata, PeerSession *session, PeerFrame type, const void *payload,
                          size_t size) {
        Reader r = reader_over(payload, size);
        Replica *p = userdata;
        ConsistencyCheck *c = p->consistency;
        uint64_t from, term, index, value;
        uint8_t kind;

        if (!replica_is_open(p) || !replica_read_head(p, session, &r, &from))
                return;
        kind = read_u8(&r);
        term = read_u64(&r);
        index = read_u64(&r);
        value = read_u64(&r);
        if (reader_end(&r) < 0 || term != replica_term(p) || index == 0)
                return;

        if ((kind == COMPARE_REPORT || kind == COMPARE_REPORT_TAKEN) && replica_is_leader(p))
                consistency_take_report(c, from, index, value, kind == COMPARE_REPORT_TAKEN);
        else if (kind == COMPARE_VERDICT && from == replica_leader(p) && value < _VERDICT_MAX)
                consistency_take_verdict(c, index, (Verdict) value);
        else if (kind == COMPARE_ASK && replica_is_leader(p) && c->differs_index == 0 &&
                 c->undecided_index == 0 &&
                 index <= raft_core_applied_index(replica_core(
                                  p))) /* a later index would cause checkpoint after checkpoint */
                transfers_send(p->transfers, from, index, true);
}

/* -- Lifetime -- */

bool consistency_differs(const ConsistencyCheck *c) {
        return c->differs_index > 0;
}

bool consistency_undecided(const ConsistencyCheck *c) {
        return c->undecided_index > 0;
}

bool consistency_may_send(const ConsistencyCheck *c) {
        if (c->differs_index > 0 || c->undecided_index > 0)
                return false;
        for (size_t i = 0; i < ROWS_MAX; i++)
                if (c->rows[i].index > 0 && c->rows[i].doubt_ms > 0 && c->term == replica_term(c->replica))
                        return false;
        return true;
}

void consistency_tree_replaced(ConsistencyCheck *c, bool taken) {
        c->taken |= taken;
        c->n_own = c->n_sent = c->n_noted = 0;
        c->differs_index = c->undecided_index = 0;
        timer_stop(&c->ask);
}

int consistency_new(ConsistencyCheck **ret, Replica *p) {
        ConsistencyCheck *c = NEW0(ConsistencyCheck, 1);

        if (!c)
                return -ENOMEM;
        c->replica = p;
        c->send = DEFERRED(consistency_on_send, c);
        c->rest = TIMER(consistency_on_rest, c);
        c->ask = TIMER(consistency_on_ask, c);
        c->doubt = TIMER(consistency_on_doubt, c);
        *ret = c;
        return 0;
}

ConsistencyCheck *consistency_free(ConsistencyCheck *c) {
        if (!c)
                return NULL;
        deferred_cancel(&c->send);
        timer_stop(&c->rest);
        timer_stop(&c->ask);
        timer_stop(&c->doubt);
        free(c);
        return NULL;
}
