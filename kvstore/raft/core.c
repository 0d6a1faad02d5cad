/* Feeding the engine and carrying out what it answers.
 *
 * Every input becomes one or several raft_step()s. After each: term and vote to disk, entries into memory and
 * on their way to the disk, messages out (step.c); at the end of the input whatever became committed is
 * applied, and the owner told what changed (core_finish()). The engine gets no data of entries but
 * configurations: it looks at nothing else.
 *
 * Ownership (libraft 0.22): a batch that we hand in comes back in the update if its entries are new, else the
 * engine frees it; configurations in START, PERSISTED_SNAPSHOT and CONFIGURATION are taken; a received
 * snapshot's comes back in the update. An error of RECEIVE frees the batch, one of START the array of
 * entries, one of SUBMIT nothing. */
#include "kvstore/raft/core.h"

#include <assert.h>
#include <errno.h>

#include "kvstore/raft/core_internal.h"

enum {
        PROMOTION_MAX_MS =
                2000, /* a promoted server that does not acknowledge its own promotion for so long ends it */
        CLOSE_ENTRIES = 100,
        HEARD_MS = 1000,
        /* A lost snapshot message, and a newer checkpoint since: the engine's heartbeats are then anchored at
         * an index whose rejection it takes for stale, and it waits for this time-out. */
        INSTALL_MS = 10 * 1000,
};

static_assert((int) RAFT_ENTRY_COMMAND == (int) RAFT_COMMAND &&
                      (int) RAFT_ENTRY_BARRIER == (int) RAFT_BARRIER &&
                      (int) RAFT_ENTRY_CHANGE == (int) RAFT_CHANGE,
              "entry types are the engine's");

int raft_errno(int rv) {
        static const int table[] = {
                [RAFT_NOMEM] = -ENOMEM,        [RAFT_BADID] = -EINVAL,
                [RAFT_DUPLICATEID] = -EEXIST,  [RAFT_DUPLICATEADDRESS] = -EEXIST,
                [RAFT_BADROLE] = -EINVAL,      [RAFT_MALFORMED] = -EBADMSG,
                [RAFT_NOTLEADER] = -EREMOTE,   [RAFT_LEADERSHIPLOST] = -ECONNABORTED,
                [RAFT_SHUTDOWN] = -ESHUTDOWN,  [RAFT_CANTBOOTSTRAP] = -ENOTEMPTY,
                [RAFT_CANTCHANGE] = -EBUSY,    [RAFT_CORRUPT] = -EUCLEAN,
                [RAFT_CANCELED] = -ECANCELED,  [RAFT_NAMETOOLONG] = -ENAMETOOLONG,
                [RAFT_TOOBIG] = -EFBIG,        [RAFT_NOCONNECTION] = -ENOTCONN,
                [RAFT_BUSY] = -EAGAIN,         [RAFT_IOERR] = -EIO,
                [RAFT_NOTFOUND] = -ENOENT,     [RAFT_INVALID] = -EINVAL,
                [RAFT_UNAUTHORIZED] = -EACCES, [RAFT_NOSPACE] = -ENOSPC,
                [RAFT_TOOMANY] = -EMFILE,
        };

        if (rv == 0)
                return 0;
        return rv > 0 && rv < (int) ELEMENTS(table) ? table[rv] : -EIO;
}

/* -- Life -- */

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
        c->rules = options->rules ? *options->rules : RAFT_RULES_ALL;
        c->election_ms = options->election_ms ? options->election_ms : 400;
        c->log.first = 1;
        c->servers_stale = true;

        r = raft_errno(raft_init(&c->raft, NULL, NULL, options->id, options->address));
        if (r < 0) {
                free(c);
                return r;
        }

        c->raft.tracer = NULL; /* else each step prints sentences that nobody reads */
        raft_seed(&c->raft, options->seed);
        raft_set_election_timeout(&c->raft, c->election_ms);
        raft_set_heartbeat_timeout(&c->raft, options->heartbeat_ms ? options->heartbeat_ms : 150);
        raft_set_install_snapshot_timeout(&c->raft, options->install_ms ? options->install_ms : INSTALL_MS);
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

/* A configuration became committed and applied: tells the engine. */
static int commit_configuration(RaftCore *c, uint64_t now_ms, uint64_t index, const RaftEntry *e) {
        struct raft_event event = { .type = RAFT_CONFIGURATION };
        Given given = {};
        int r;

        r = raft_configuration_read(e->data, e->size, &event.configuration.conf);
        if (r < 0)
                return r;

        if (c->raft.configuration_uncommitted_index != index) {
                rule_remember_committed(c, index, &event.configuration.conf);
                return 0;
        }

        event.configuration.index = index;
        return core_step(c, now_ms, &event, &given, NULL);
}

/* Applies what is committed: runs of entries, each ending at a configuration, until the owner has applied
 * less than a run. While a received state is being put in place the engine's commit index speaks of entries
 * that we do not hold. */
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

                if (e->type == RAFT_ENTRY_CHANGE) {
                        r = commit_configuration(c, now_ms, last, e);
                        if (r < 0)
                                return r;
                }
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

/* The promoted server has acknowledged its promotion: now the entry may exist here, too. */
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

/* A leader without an entry of its own term in its log can commit nothing, and does not know what is
 * committed. */
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

/* Who follows closely, and since when. */
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
                    now_ms - peer->contact_ms > HEARD_MS)
                        peer->close_since_ms = 0;
                else if (peer->close_since_ms == 0)
                        peer->close_since_ms = now_ms;
        }
}

static int refresh_servers(RaftCore *c) {
        RaftServers servers;
        int r;

        if (!c->servers_stale)
                return 0;

        r = raft_servers_copy(&c->raft.configuration, &servers);
        if (r < 0)
                return r;

        raft_servers_done(&c->servers);
        c->servers = servers;
        c->servers_stale = false;
        c->changed |= RAFT_CHANGED_CONFIGURATION;
        return 0;
}

static void tell_changes(RaftCore *c) {
        RaftState state = raft_core_state(c);
        uint64_t term = raft_current_term(&c->raft), commit = raft_commit_index(&c->raft),
                 leader = raft_core_leader(c, NULL);
        unsigned what = c->changed;

        if (state != c->told_state || term != c->told_term)
                what |= RAFT_CHANGED_STATE;
        if (leader != c->told_leader)
                what |= RAFT_CHANGED_LEADER;
        if (commit != c->told_commit)
                what |= RAFT_CHANGED_COMMIT;

        c->told_state = state;
        c->told_term = term;
        c->told_leader = leader;
        c->told_commit = commit;
        c->changed = 0;
        if (what != 0)
                c->ops->changed(c->userdata, what);
}

/* What stands at the end of every input; 'r' is what came before. Any error here or before ends the core. */
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
                tell_changes(c);

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
        Given given = {};
        uint64_t term, vote;
        int r;

        if (c->held_from > 0 && now_ms - c->held_since_ms > PROMOTION_MAX_MS)
                return -ERESTART;
        if (now_ms < raft_timeout(&c->raft))
                return 0;

        if (c->raft.state == RAFT_FOLLOWER && !c->installing &&
            c->raft.last_stored == raft_last_index(&c->raft)) {
                term = c->raft.current_term;
                vote = c->raft.voted_for;
                r = core_begin_own_term(c, &term, &vote, &c->raft.configuration);
                if (r < 0)
                        return r;
                c->raft.current_term = term;
                c->raft.voted_for = vote;
        }
        return core_step(c, now_ms, &event, &given, NULL);
}

int raft_core_tick(RaftCore *c, uint64_t now_ms) {
        int r;

        r = core_begin(c);
        if (r < 0)
                return r;
        return core_finish(c, now_ms, tick(c, now_ms));
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
        Given given = {};
        int r;

        r = core_begin(c);
        if (r < 0)
                return r;

        event.persisted_entries.index = core_written(c, generation, last_index);
        if (!c->installing && event.persisted_entries.index > c->raft.last_stored)
                r = core_step(c, now_ms, &event, &given, NULL);
        return core_finish(c, now_ms, r);
}

int raft_core_installed(RaftCore *c, uint64_t now_ms) {
        struct raft_event event = { .type = RAFT_PERSISTED_SNAPSHOT };
        Given given = {};
        int r;

        r = core_begin(c);
        if (r < 0)
                return r;

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
        return core_finish(c, now_ms, core_step(c, now_ms, &event, &given, NULL));
}

static int checkpointed(RaftCore *c, uint64_t now_ms, const RaftStateInfo *checkpoint, unsigned trailing) {
        struct raft_event event = { .type = RAFT_SNAPSHOT };
        Given given = {};
        int r;

        event.snapshot.metadata.index = checkpoint->index;
        event.snapshot.metadata.term = checkpoint->term;
        event.snapshot.metadata.configuration_index = checkpoint->configuration_index;
        event.snapshot.trailing = trailing;
        r = raft_configuration_read(checkpoint->configuration, checkpoint->configuration_size,
                                    &event.snapshot.metadata.configuration);
        if (r < 0)
                return r;

        r = core_step(c, now_ms, &event, &given, NULL);
        if (r < 0)
                return r;

        raft_entries_cut(&c->log, c->raft.trail.offset);
        return 0;
}

int raft_core_checkpointed(RaftCore *c, uint64_t now_ms, const RaftStateInfo *checkpoint, unsigned trailing) {
        int r;

        r = core_begin(c);
        if (r < 0)
                return r;
        c->busy = false;

        r = rule_snapshot_stored_only(c, checkpoint);
        if (r < 0)
                return r;
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

static int submit(RaftCore *c, uint64_t now_ms, RaftEntryType type, const void *data, size_t size,
                  uint64_t *ret_index, uint64_t *ret_term) {
        uint64_t index, term;
        int r;

        r = core_begin(c);
        if (r < 0)
                return r;
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
        r = core_submit(c, now_ms, type, data, size, &index);
        (void) core_finish(c, now_ms, r);
        if (r < 0)
                return r;

        /* Whatever failed behind it has ended the core, but the entry is in the log and was sent: it may be
         * committed. */
        *ret_index = index;
        *ret_term = term;
        return 0;
}

int raft_core_error(const RaftCore *c) {
        return c->dead;
}

int raft_core_submit(RaftCore *c, uint64_t now_ms, const void *data, size_t size, uint64_t *ret_index,
                     uint64_t *ret_term) {
        return submit(c, now_ms, RAFT_ENTRY_COMMAND, data, size, ret_index, ret_term);
}

int raft_core_barrier(RaftCore *c, uint64_t now_ms, uint64_t *ret_index, uint64_t *ret_term) {
        return submit(c, now_ms, RAFT_ENTRY_BARRIER, NULL, 0, ret_index, ret_term);
}

int core_submit_change(RaftCore *c, uint64_t now_ms, const void *bytes, size_t size, uint64_t *ret_index) {
        c->busy = true;
        return core_finish(c, now_ms, core_submit(c, now_ms, RAFT_ENTRY_CHANGE, bytes, size, ret_index));
}

int core_transfer(RaftCore *c, uint64_t now_ms, uint64_t id) {
        struct raft_event event = { .type = RAFT_TRANSFER, .transfer.server_id = id };
        Given given = {};
        int r;

        assert(!c->busy);
        c->busy = true;
        r = core_step(c, now_ms, &event, &given, NULL);
        if (r == -EINVAL || r == -ENOENT) { /* nothing happened */
                c->busy = false;
                return r;
        }
        return core_finish(c, now_ms, r);
}

/* -- Asking -- */

uint64_t raft_core_id(const RaftCore *c) {
        return c->raft.id;
}

RaftState raft_core_state(const RaftCore *c) {
        switch (c->raft.state) {
        case RAFT_LEADER:
                return RAFT_STATE_LEADER;
        case RAFT_CANDIDATE:
                return RAFT_STATE_CANDIDATE;
        default:
                return RAFT_STATE_FOLLOWER;
        }
}

uint64_t raft_core_term(const RaftCore *c) {
        return raft_current_term(&c->raft);
}

uint64_t raft_core_vote(const RaftCore *c) {
        return raft_voted_for(&c->raft);
}

bool raft_core_leads(const RaftCore *c) {
        return c->raft.state == RAFT_LEADER && c->applied_term == raft_current_term(&c->raft);
}

uint64_t raft_core_leader(const RaftCore *c, const char **ret_address) {
        const char *address = NULL;
        raft_id id = 0;

        /* A follower of the engine believes in its leader for as long as it grants votes of higher terms in
         * time. */
        if (c->started && (c->raft.state != RAFT_FOLLOWER || c->leader_term == raft_current_term(&c->raft)))
                raft_leader((struct raft *) &c->raft, &id, &address);
        if (ret_address)
                *ret_address = id > 0 ? address : NULL;
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
