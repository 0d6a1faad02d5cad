/* Inputs of the core.
 *
 * Each input becomes one or several raft_step()s. After each step, core_step.c executes the update: term and
 * vote to disk, entries into memory and to the disk's queue, messages out. At the end of the input,
 * core_finish() applies the entries that became committed, and notifies the owner of changes. Of entries, the
 * engine gets the data of configurations only, because it reads no other data.
 *
 * Ownership (libraft 0.22): a batch that the core passes in comes back in the update if its entries are new;
 * otherwise the engine frees it. The engine takes the configurations of START, PERSISTED_SNAPSHOT and
 * CONFIGURATION; that of a received snapshot comes back in the update. An error of RECEIVE frees the batch,
 * one of START the array of entries, one of SUBMIT nothing. */

#include "kvstore/raft/core_internal.h"

enum {
        PROMOTION_MAX_MS = 2000, /* for the promoted server to acknowledge its promotion; then it ends */
        CLOSE_ENTRIES = 100,
        CONTACT_MS = 1000,
        QUORUM_MAX = 16, /* voters that are counted */
        /* After a lost snapshot message and a newer checkpoint, the engine's heartbeats start at an index
         * whose rejection the engine regards as stale, and it waits for this timeout. */
        INSTALL_MS = 10 * 1000,
};

static_assert((int) RAFT_ENTRY_COMMAND == (int) RAFT_COMMAND &&
                      (int) RAFT_ENTRY_BARRIER == (int) RAFT_BARRIER &&
                      (int) RAFT_ENTRY_CHANGE == (int) RAFT_CHANGE,
              "entry types are the engine's");

/* -- Lifetime -- */

int raft_core_new(const RaftCoreOptions *options, const RaftCoreOps *ops, void *userdata, RaftCore **ret) {
        RaftCore *c;
        int r;

        if (options->id == 0 || !options->address || strlen(options->address) > RAFT_ADDRESS_MAX)
                return -EINVAL;

        c = NEW0(RaftCore, 1);
        if (!c)
                return -ENOMEM;

        c->ops = ops;
        c->userdata = userdata;
        c->off = options->off;
        c->log.first = 1;
        c->servers_stale = true;

        r = raft_errno(raft_init(&c->raft, NULL, NULL, options->id, options->address));
        if (r < 0) {
                free(c);
                return r;
        }

        c->raft.tracer = NULL; /* else each step formats trace messages */
        raft_seed(&c->raft, options->seed);
        raft_set_election_timeout(&c->raft, options->election_ms ? options->election_ms : 400);
        raft_set_heartbeat_timeout(&c->raft, options->heartbeat_ms ? options->heartbeat_ms : 150);
        raft_set_install_snapshot_timeout(&c->raft, INSTALL_MS);
        raft_set_max_inflight_entries(&c->raft, RAFT_MESSAGE_ENTRIES_MAX);
        raft_set_pre_vote(&c->raft, true);
        *ret = c;
        return 0;
}

RaftCore *raft_core_free(RaftCore *c) {
        if (!c)
                return NULL;

        raft_close(&c->raft, NULL);
        if (c->installing)
                raft_configuration_close(&c->install.configuration);
        raft_entries_reset(&c->log, 1);
        raft_servers_done(&c->servers);
        free(c->pending);
        free(c->peers);
        free(c);
        return NULL;
}

/* -- After the steps of an input -- */

/* With two configurations above the commit index, the engine keeps only the second as pending. Once the first
 * is applied, it is nevertheless the one to return to, and the one that a snapshot between them carries. */
static void rule_remember_committed(RaftCore *c, uint64_t index, struct raft_configuration *conf) {
        if (c->off.remember_committed || index <= c->raft.configuration_committed_index) {
                raft_configuration_close(conf);
                return;
        }

        raft_configuration_close(&c->raft.configuration_committed);
        c->raft.configuration_committed = *conf;
        c->raft.configuration_committed_index = index;
}

/* Report to the engine that configuration 'e' is committed and applied. */
static int commit_configuration(RaftCore *c, uint64_t now_ms, uint64_t index, const RaftEntry *e) {
        struct raft_event event = { .type = RAFT_CONFIGURATION };

        TRY(raft_configuration_read(e->data, e->size, &event.configuration.conf));

        if (c->raft.configuration_uncommitted_index != index) {
                rule_remember_committed(c, index, &event.configuration.conf);
                return 0;
        }

        event.configuration.index = index;
        return core_step(c, now_ms, &event, &(Given) {}, NULL);
}

/* Stop when the owner has applied less than a run. While a received state is being installed, the engine's
 * commit index includes entries that this host does not hold. */
int core_apply_committed(RaftCore *c, uint64_t now_ms) {
        int r;

        while (raft_core_is_behind(c)) {
                uint64_t first = c->handled + 1, last = first, end;
                const RaftEntry *e = raft_entries_get(&c->log, first);

                if (!e)
                        return -ESHUTDOWN;
                while (e->type != RAFT_ENTRY_CHANGE && last < raft_commit_index(&c->raft)) {
                        last++;
                        e = raft_entries_get(&c->log, last);
                        if (!e)
                                return -ESHUTDOWN;
                }

                end = last;
                if (last > c->applied) {
                        uint64_t from = MAX(first, c->applied + 1);

                        r = c->ops->apply(c->userdata, from, raft_entries_get(&c->log, from),
                                          last - from + 1);
                        if (r <= 0)
                                return r;
                        end = from + (uint64_t) r - 1;
                        assert(end <= last);
                        c->applied = end;
                        c->applied_term = raft_entries_get(&c->log, end)->term;
                        c->changed |= RAFT_CHANGED_COMMIT;
                }
                c->handled = end;
                if (end < last)
                        return 0;

                if (e->type == RAFT_ENTRY_CHANGE)
                        r = TRY(commit_configuration(c, now_ms, last, e));
        }
        return 0;
}

bool raft_core_is_behind(const RaftCore *c) {
        return c->dead == 0 && !c->installing && c->handled < raft_commit_index(&c->raft);
}

int raft_core_apply(RaftCore *c, uint64_t now_ms) {
        int r = core_begin(c);

        return r < 0 ? r : core_finish(c, now_ms, 0);
}

/* Write the promotion that was held back, once the promoted server has acknowledged it. */
static int release_held(RaftCore *c) {
        raft_index match;
        uint64_t from = c->held_from;

        if (from == 0 || c->raft.state != RAFT_LEADER ||
            raft_match_index(&c->raft, c->held_for, &match) != 0 || match < from)
                return 0;

        c->held_from = 0;
        return core_write(c, from, raft_entries_last(&c->log));
}

static int core_submit(RaftCore *c, uint64_t now_ms, RaftEntryType type, const void *data, size_t size,
                       uint64_t *ret_index);

/* A leader can commit nothing, and cannot determine the commit index, before an entry of its own term is in
 * its log. */
static int submit_own_barrier(RaftCore *c, uint64_t now_ms) {
        uint64_t last = raft_last_index(&c->raft);
        const RaftEntry *e = raft_entries_get(&c->log, last);

        if (c->raft.state != RAFT_LEADER || raft_transferee(&c->raft) != 0 ||
            (e && e->term == raft_current_term(&c->raft)))
                return 0;

        return core_submit(c, now_ms, RAFT_ENTRY_BARRIER, NULL, 0, NULL);
}

PeerProgress *core_peer(RaftCore *c, uint64_t id) {
        for (size_t i = 0; i < c->n_peers; i++)
                if (c->peers[i].id == id)
                        return &c->peers[i];

        if (GROW(c->peers, c->peers_capacity, c->n_peers + 1) < 0)
                return NULL;
        c->peers[c->n_peers] = (PeerProgress) { .id = id };
        return &c->peers[c->n_peers++];
}

/* Record which followers are close to this leader, and since when. */
static void watch_progress(RaftCore *c, uint64_t now_ms) {
        if (c->raft.state != RAFT_LEADER) {
                c->n_peers = 0;
                return;
        }

        for (unsigned i = 0; i < c->raft.configuration.n; i++) {
                const struct raft_server *s = &c->raft.configuration.servers[i];
                PeerProgress *peer;
                raft_index match;

                if (s->id == c->raft.id || s->role == RAFT_VOTER ||
                    raft_match_index(&c->raft, s->id, &match) != 0)
                        continue;
                peer = core_peer(c, s->id);
                if (!peer)
                        continue;

                if (match == 0 || match + CLOSE_ENTRIES < raft_last_index(&c->raft) ||
                    now_ms - peer->contact_ms > CONTACT_MS)
                        peer->close_since_ms = 0;
                else if (peer->close_since_ms == 0)
                        peer->close_since_ms = now_ms;
        }
}

static int refresh_servers(RaftCore *c) {
        RaftServers servers;

        if (!c->servers_stale)
                return 0;

        TRY(raft_servers_copy(&c->raft.configuration, &servers));

        raft_servers_done(&c->servers);
        c->servers = servers;
        c->servers_stale = false;
        c->changed |= RAFT_CHANGED_CONFIGURATION;
        return 0;
}

static void notify_changes(RaftCore *c) {
        RaftState state = raft_core_state(c);
        uint64_t term = raft_current_term(&c->raft), commit = raft_commit_index(&c->raft),
                 leader = raft_core_leader(c);
        unsigned what = c->changed;

        if (state != c->notified.state || term != c->notified.term)
                what |= RAFT_CHANGED_STATE;
        if (leader != c->notified.leader)
                what |= RAFT_CHANGED_LEADER;
        if (commit != c->notified.commit)
                what |= RAFT_CHANGED_COMMIT;

        c->notified.state = state;
        c->notified.term = term;
        c->notified.leader = leader;
        c->notified.commit = commit;
        c->changed = 0;
        if (what != 0)
                c->ops->changed(c->userdata, what);
}

int core_finish(RaftCore *c, uint64_t now_ms, int r) {
        if (r == 0)
                r = core_apply_committed(c, now_ms);
        if (r == 0)
                r = release_held(c);
        if (r == 0)
                r = submit_own_barrier(c, now_ms);
        if (c->unsent_from > 0 && (c->raft.last_stored >= c->unsent_from || c->raft.state != RAFT_LEADER))
                c->unsent_from = 0;
        watch_progress(c, now_ms);
        if (r == 0)
                r = refresh_servers(c);
        if (r == 0)
                notify_changes(c);

        c->busy = false;
        c->dead = r;
        return r;
}

int core_begin(RaftCore *c) {
        assert(!c->busy); /* called back from inside an operation */

        if (c->dead < 0)
                return c->dead;

        c->busy = true;
        return 0;
}

/* -- Time and disk -- */

static int tick(RaftCore *c, uint64_t now_ms) {
        struct raft_event event = { .type = RAFT_TIMEOUT };
        uint64_t term, vote;

        if (c->held_from > 0 && now_ms - c->held_since_ms > PROMOTION_MAX_MS)
                return -ERESTART;
        if (now_ms < raft_timeout(&c->raft))
                return 0;

        if (c->raft.state == RAFT_FOLLOWER && !c->installing &&
            c->raft.last_stored == raft_last_index(&c->raft)) {
                term = c->raft.current_term;
                vote = c->raft.voted_for;
                TRY(core_begin_own_term(c, &term, &vote, &c->raft.configuration));
                c->raft.current_term = term;
                c->raft.voted_for = vote;
        }
        return core_step(c, now_ms, &event, &(Given) {}, NULL);
}

int raft_core_tick(RaftCore *c, uint64_t now_ms) {
        int r = core_begin(c);

        return r < 0 ? r : core_finish(c, now_ms, tick(c, now_ms));
}

uint64_t raft_core_timeout_ms(const RaftCore *c) {
        uint64_t due;

        if (c->dead < 0)
                return UINT64_MAX;

        due = raft_timeout(&c->raft);
        return c->held_from > 0 ? MIN(due, c->held_since_ms + PROMOTION_MAX_MS + 1) : due;
}

int raft_core_appended(RaftCore *c, uint64_t now_ms, uint64_t generation, uint64_t last_index) {
        struct raft_event event = { .type = RAFT_PERSISTED_ENTRIES };
        int r;

        r = TRY(core_begin(c));

        event.persisted_entries.index = core_written(c, generation, last_index);
        if (!c->installing && event.persisted_entries.index > c->raft.last_stored)
                r = core_step(c, now_ms, &event, &(Given) {}, NULL);
        return core_finish(c, now_ms, r);
}

int raft_core_installed(RaftCore *c, uint64_t now_ms) {
        struct raft_event event = { .type = RAFT_PERSISTED_SNAPSHOT };

        TRY(core_begin(c));

        assert(c->installing);
        c->installing = false;
        c->servers_stale = true;
        c->handled = c->install.index;
        if (c->applied < c->install.index) {
                c->applied = c->install.index;
                c->applied_term = c->install.term;
        }

        event.persisted_snapshot.metadata = c->install;
        event.persisted_snapshot.last = true;
        return core_finish(c, now_ms, core_step(c, now_ms, &event, &(Given) {}, NULL));
}

int rule_snapshot_stored_only(const RaftCore *c, const RaftStateInfo *checkpoint) {
        if (c->installing)
                return -EAGAIN;
        if (c->off.snapshot_stored_only)
                return 0;
        if (checkpoint->index > c->raft.last_stored)
                return -EAGAIN;
        if (c->raft.configuration_committed_index > checkpoint->index)
                return -ESTALE;
        return 0;
}

static int checkpointed(RaftCore *c, uint64_t now_ms, const RaftStateInfo *checkpoint, unsigned trailing) {
        struct raft_event event = { .type = RAFT_SNAPSHOT, .snapshot.trailing = trailing };

        TRY(core_read_info(checkpoint, &event.snapshot.metadata));

        TRY(core_step(c, now_ms, &event, &(Given) {}, NULL));

        raft_entries_cut(&c->log, c->raft.trail.offset);
        return 0;
}

int raft_core_checkpointed(RaftCore *c, uint64_t now_ms, const RaftStateInfo *checkpoint, unsigned trailing) {
        TRY(core_begin(c));
        c->busy = false;

        TRY(rule_snapshot_stored_only(c, checkpoint));
        if (checkpoint->index <= c->raft.trail.snapshot.index)
                return 0;

        c->busy = true;
        return core_finish(c, now_ms, checkpointed(c, now_ms, checkpoint, trailing));
}

/* -- Submitting -- */

static int core_submit(RaftCore *c, uint64_t now_ms, RaftEntryType type, const void *data, size_t size,
                       uint64_t *ret_index) {
        RaftEntry entry = { .term = raft_current_term(&c->raft), .type = type, .data = data, .size = size };
        struct raft_entry own = { .term = entry.term, .type = (enum raft_entry_type) type };
        struct raft_event event = { .type = RAFT_SUBMIT, .submit = { .entries = &own, .n = 1 } };
        Given given = { .entries = &entry, .first = raft_last_index(&c->raft) + 1 };
        int r;

        own.batch = raft_malloc(size > 0 ? size : 1);
        if (!own.batch)
                return -ENOMEM;
        own.buf.base = given.after_error = own.batch;
        if (type == RAFT_ENTRY_CHANGE) {
                memcpy(own.batch, data, size);
                own.buf.len = size;
        }

        r = core_step(c, now_ms, &event, &given, NULL);
        if (r == 0 && ret_index)
                *ret_index = given.first;
        return r;
}

int raft_core_submit(RaftCore *c, uint64_t now_ms, const void *data, size_t size, uint64_t *ret_index,
                     uint64_t *ret_term) {
        uint64_t index, term;
        int r;

        TRY(core_begin(c));
        c->busy = false;

        if (size > RAFT_ENTRY_SIZE_MAX)
                return -EFBIG;
        if (c->raft.state != RAFT_LEADER || raft_transferee(&c->raft) != 0)
                return -EREMOTE;
        if (raft_last_index(&c->raft) >=
            MIN(raft_commit_index(&c->raft), c->handled) + RAFT_CORE_UNCOMMITTED_MAX)
                return -EAGAIN;

        c->busy = true;
        term = raft_current_term(&c->raft);
        r = core_submit(c, now_ms, RAFT_ENTRY_COMMAND, data, size, &index);
        (void) core_finish(c, now_ms, r);
        if (r < 0)
                return r;

        /* A later failure has ended the core, but the entry is in the log and was sent: it may be committed.
         */
        *ret_index = index;
        *ret_term = term;
        return 0;
}

int raft_core_error(const RaftCore *c) {
        return c->dead;
}

int core_submit_change(RaftCore *c, uint64_t now_ms, const void *bytes, size_t size, uint64_t *ret_index) {
        c->busy = true;
        return core_finish(c, now_ms, core_submit(c, now_ms, RAFT_ENTRY_CHANGE, bytes, size, ret_index));
}

int raft_core_transfer(RaftCore *c, uint64_t now_ms, uint64_t id) {
        struct raft_event event = { .type = RAFT_TRANSFER, .transfer.server_id = id };
        int r;

        r = TRY(core_begin(c));
        if (c->raft.state != RAFT_LEADER)
                r = -EREMOTE;
        else if (raft_transferee(&c->raft) != 0 || c->held_from > 0)
                r = -EBUSY;
        else {
                r = core_step(c, now_ms, &event, &(Given) {}, NULL);
                if (r != -EINVAL && r != -ENOENT) /* these changed nothing */
                        return core_finish(c, now_ms, r);
        }
        c->busy = false;
        return r;
}

/* -- Status -- */

uint64_t raft_core_id(const RaftCore *c) {
        return c->raft.id;
}

RaftState raft_core_state(const RaftCore *c) {
        if (c->raft.state == RAFT_LEADER)
                return RAFT_STATE_LEADER;
        return c->raft.state == RAFT_CANDIDATE ? RAFT_STATE_CANDIDATE : RAFT_STATE_FOLLOWER;
}

uint64_t raft_core_term(const RaftCore *c) {
        return raft_current_term(&c->raft);
}

bool raft_core_leads(const RaftCore *c) {
        return c->raft.state == RAFT_LEADER && c->applied_term == raft_current_term(&c->raft);
}

static int compare_newest(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return x < y ? 1 : -(x > y);
}

uint64_t raft_core_quorum_ms(const RaftCore *c, uint64_t now_ms) {
        uint64_t contacts[QUORUM_MAX];
        size_t n = 0;

        for (unsigned i = 0; i < c->raft.configuration.n && n < QUORUM_MAX; i++) {
                const struct raft_server *s = &c->raft.configuration.servers[i];

                if (s->role != RAFT_VOTER)
                        continue;
                contacts[n++] = now_ms; /* this host, and one that has voted and sent no result yet */
                for (size_t k = 0; k < c->n_peers && s->id != c->raft.id; k++)
                        if (c->peers[k].id == s->id && c->peers[k].contact_ms > 0)
                                contacts[n - 1] = c->peers[k].contact_ms;
        }
        if (n == 0)
                return now_ms;
        qsort(contacts, n, sizeof(contacts[0]), compare_newest);
        return contacts[n / 2];
}

uint64_t raft_core_leader(const RaftCore *c) {
        const char *address;
        raft_id id = 0;

        /* A follower of the engine keeps its leader for as long as it grants votes of higher terms in time.
         */
        if (c->started && (c->raft.state != RAFT_FOLLOWER || c->leader_term == raft_current_term(&c->raft)))
                raft_leader((struct raft *) &c->raft, &id, &address);
        return id;
}

uint64_t raft_core_commit_index(const RaftCore *c) {
        return raft_commit_index(&c->raft);
}

uint64_t raft_core_applied_index(const RaftCore *c) {
        return c->applied;
}

uint64_t raft_core_first_index(const RaftCore *c) {
        return c->log.first;
}

uint64_t raft_core_last_index(const RaftCore *c) {
        return raft_entries_last(&c->log);
}

uint64_t raft_core_last_term(const RaftCore *c) {
        const RaftEntry *last = raft_entries_get(&c->log, raft_entries_last(&c->log));

        return last ? last->term : c->applied_term;
}

uint64_t raft_core_entries_bytes(const RaftCore *c) {
        return c->log.bytes;
}

uint64_t raft_core_stored_index(const RaftCore *c) {
        return c->raft.last_stored;
}

bool raft_core_installing(const RaftCore *c) {
        return c->installing;
}

const RaftEntry *raft_core_entry(const RaftCore *c, uint64_t index) {
        return raft_entries_get(&c->log, index);
}
