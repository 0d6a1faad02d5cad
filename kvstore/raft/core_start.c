/* Start of the engine from durable state. */

#include "kvstore/raft/core_internal.h"

int raft_core_log_fits(const RaftCoreStart *start) {
        uint64_t index = start->state ? start->state->index : 0,
                 last = start->first_index + start->n_entries - 1;

        if (start->first_index > index + 1)
                return start->n_entries > 0 || index == 0 ? -EUCLEAN : 0;
        if (last < index)
                return 0;
        if (start->first_index <= index &&
            start->entries[index - start->first_index].term != start->state->term)
                return 0;
        return 1;
}

/* Read the configuration that will be in force: the last one of the log after the state's, or the state's. */
static int find_configuration(const RaftCoreStart *start, struct raft_configuration *ret) {
        uint64_t behind = start->state ? start->state->configuration_index : 0;

        for (size_t i = start->n_entries; i > 0 && start->first_index + i - 1 > behind; i--)
                if (start->entries[i - 1].type == RAFT_ENTRY_CHANGE)
                        return raft_configuration_read(start->entries[i - 1].data, start->entries[i - 1].size,
                                                       ret);

        raft_configuration_init(ret);
        if (behind == 0)
                return 0;
        return raft_configuration_read(start->state->configuration, start->state->configuration_size, ret);
}

static int load_entries(RaftCore *c, const RaftCoreStart *start) {
        c->log.first = start->first_index;
        for (size_t i = 0; i < start->n_entries; i++) {
                RaftEntry *e = &start->entries[i];

                if (e->type == RAFT_ENTRY_CHANGE && raft_configuration_check(e->data, e->size) < 0)
                        return -EUCLEAN;
                TRY(start->take ? raft_entries_take(&c->log, e) : raft_entries_append(&c->log, e));
        }
        return 0;
}

static int start_engine(RaftCore *c, uint64_t now_ms, const RaftCoreStart *start) {
        struct raft_event event = { .type = RAFT_START };
        struct raft_snapshot_metadata metadata = {};
        struct raft_entry *entries;
        uint64_t term = start->term, vote = start->vote;
        struct raft_configuration conf;
        Given given = {};
        int r;

        if (!c->off.start_checks_term && raft_core_log_fits(start) != 1)
                return -EUCLEAN;

        TRY(find_configuration(start, &conf));
        r = core_begin_own_term(c, &term, &vote, &conf);
        raft_configuration_close(&conf);
        if (r < 0)
                return r;

        r = TRY(load_entries(c, start));

        if (start->state && start->state->index > 0) {
                c->handled = c->applied = start->state->index;
                c->applied_term = start->state->term;
                TRY(core_read_info(start->state, &metadata));
                event.start.metadata = &metadata;
        }

        event.start.term = term;
        event.start.voted_for = vote;
        event.start.start_index = start->first_index;

        entries = raft_calloc(start->n_entries + 1, sizeof(*entries));
        if (!entries) {
                raft_configuration_close(&metadata.configuration);
                return -ENOMEM;
        }
        for (size_t i = 0; i < start->n_entries; i++)
                entries[i] = (struct raft_entry) {
                        .term = c->log.items[i].term,
                        .type = (enum raft_entry_type) c->log.items[i].type,
                        .buf = { .base = (void *) c->log.items[i].data, .len = c->log.items[i].size },
                };
        event.start.entries = given.after = entries;
        event.start.n_entries = (unsigned) start->n_entries;
        return core_step(c, now_ms, &event, &given, NULL);
}

int raft_core_start(RaftCore *c, uint64_t now_ms, const RaftCoreStart *start) {
        TRY(core_begin(c));

        assert(!c->started);
        c->started = true;
        return core_finish(c, now_ms, start_engine(c, now_ms, start));
}
