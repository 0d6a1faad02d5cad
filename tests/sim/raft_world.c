/* Servers, disks, network, and the order of events. */
#include "tests/sim/raft_world.h"

#include "tests/lib/raft_names.h"

uint64_t world_random(World *w, uint64_t below) {
        return random_below(&w->random, below);
}

uint64_t raft_mix(uint64_t h, uint64_t v) {
        h ^= v + 0x9e3779b97f4a7c15 + (h << 6) + (h >> 2);
        h ^= h >> 31;
        return h * 0xbf58476d1ce4e5b9;
}

void world_trace(World *w, const Server *s, const char *format, ...) {
        va_list ap;

        if (!w->options.trace)
                return;

        printf("[%7" PRIu64 "] ", w->now_ms);
        if (s)
                printf("s%u/%" PRIu64 " ", s->slot, s->id);
        va_start(ap, format);
        vprintf(format, ap);
        va_end(ap);
        putchar('\n');
}

void *raft_copy_bytes(const void *bytes, size_t size) {
        void *copy = malloc(size ? size : 1);

        if (!copy)
                abort();
        if (size > 0)
                memcpy(copy, bytes, size);
        return copy;
}

/* -- States -- */

static void state_done(SimState *state) {
        free(state->configuration);
        *state = (SimState) {};
}

SimState raft_state_copy(const SimState *state) {
        SimState copy = *state;

        copy.configuration = raft_copy_bytes(state->configuration, state->configuration_size);
        return copy;
}

static void state_assign(SimState *to, const SimState *from) {
        SimState copy = raft_state_copy(from);

        state_done(to);
        *to = copy;
}

RaftStateInfo state_info(const SimState *state) {
        return (RaftStateInfo) {
                .index = state->index,
                .term = state->term,
                .configuration_index = state->configuration_index,
                .configuration = state->configuration,
                .configuration_size = state->configuration_size,
        };
}

/* -- Events -- */

static bool earlier(const Event *a, const Event *b) {
        return a->at_ms != b->at_ms ? a->at_ms < b->at_ms : a->serial < b->serial;
}

void world_push(World *w, Event event) {
        size_t i = w->n_heap;

        event.serial = w->serial++;
        if (GROW(w->heap, w->heap_capacity, w->n_heap + 1) < 0)
                abort();
        w->n_heap++;
        while (i > 0 && earlier(&event, &w->heap[(i - 1) / 2])) {
                w->heap[i] = w->heap[(i - 1) / 2];
                i = (i - 1) / 2;
        }
        w->heap[i] = event;
}

static Event pop(World *w) {
        Event first = w->heap[0], last = w->heap[--w->n_heap];
        size_t i = 0;

        while (2 * i + 1 < w->n_heap) {
                size_t child = 2 * i + 1;

                if (child + 1 < w->n_heap && earlier(&w->heap[child + 1], &w->heap[child]))
                        child++;
                if (!earlier(&w->heap[child], &last))
                        break;
                w->heap[i] = w->heap[child];
                i = child;
        }
        w->heap[i] = last;
        return first;
}

void event_done(Event *event) {
        free(event->bytes);
        if (event->bulk) {
                state_done(event->bulk);
                free(event->bulk);
        }
}

void server_push(Server *s, EventKind kind, uint64_t in_ms) {
        world_push(s->world, (Event) { .at_ms = s->world->now_ms + in_ms,
                                       .kind = kind,
                                       .slot = s->slot,
                                       .incarnation = s->incarnation });
}

/* -- The log's disk -- */

static void write_done(LogWrite *write) {
        for (size_t i = 0; i < write->n; i++)
                free((void *) write->entries[i].data);
        free(write->entries);
}

/* Makes the first 'n' entries of a write durable: its truncation comes first. */
static void make_durable(Server *s, const LogWrite *write, size_t n) {
        RaftEntries *log = &s->storage.log;

        switch (write->kind) {
        case LOG_APPEND:
                if (write->first <= raft_entries_last(log)) {
                        if (s->world->options.bug == BUG_KEEP_CONFLICTS && n > 0)
                                return;
                        raft_entries_truncate(log, write->first);
                }
                if (write->first != raft_entries_last(log) + 1) {
                        check_failed(s->world,
                                     "the log of server %" PRIu64 " ends at %" PRIu64 ", and %" PRIu64
                                     " is appended",
                                     s->id, raft_entries_last(log), write->first);
                        return;
                }
                for (size_t i = 0; i < n; i++)
                        if (raft_entries_append(log, &write->entries[i]) < 0)
                                abort();
                return;
        case LOG_RESET:
                raft_entries_reset(log, write->first + 1);
                return;
        case LOG_CUT:
                raft_entries_cut(log, write->first);
                return;
        }
}

void server_queue_write(Server *s, LogWrite write) {
        if (GROW(s->writes, s->writes_capacity, s->n_writes + 1) < 0)
                abort();
        s->writes[s->n_writes++] = write;
        if (!s->writing) {
                s->writing = true;
                server_push(s, EVENT_DISK, 1 + world_random(s->world, s->disk_ms));
        }
}

static void drop_writes(Server *s) {
        for (size_t i = 0; i < s->n_writes; i++)
                write_done(&s->writes[i]);
        s->n_writes = 0;
        s->writing = false;
}

/* A crash: any number of the pending writes is durable, the one after them in part. */
static void tear_writes(Server *s) {
        size_t n = s->n_writes > 0 ? world_random(s->world, s->n_writes + 1) : 0;

        for (size_t i = 0; i < n; i++)
                make_durable(s, &s->writes[i], s->writes[i].n);
        if (n < s->n_writes && s->writes[n].kind == LOG_APPEND && s->writes[n].n > 0 &&
            world_random(s->world, 2) == 0) {
                world_count(s->world, "torn-write");
                make_durable(s, &s->writes[n], world_random(s->world, s->writes[n].n));
        }
        drop_writes(s);
}

/* -- Servers -- */

unsigned slot_of(uint64_t id) {
        return (unsigned) ((id - 1) % ID_STEP);
}

static void clear_run(Server *s) {
        s->core = raft_core_free(s->core);
        drop_writes(s);
        state_done(&s->incoming);
        state_done(&s->copy);
        s->install = INSTALL_NONE;
        s->checkpointing = s->unreported = s->led = s->applying = false;
        memset(s->sending_state, 0, sizeof(s->sending_state));
        memset(s->seen_match, 0, sizeof(s->seen_match));
        memset(s->seen_match_ms, 0, sizeof(s->seen_match_ms));
        s->incarnation++;
        s->up = false;
}

void server_crash(Server *s, bool machine, uint64_t restart_after_ms) {
        if (!s->up)
                return;

        world_trace(s->world, s, "crashes%s", machine ? " with its machine" : "");
        s->world->count.crashes++;
        tear_writes(s);
        if (machine) {
                world_count(s->world, "machine-lost-its-live-state");
                state_assign(&s->storage.state, &s->storage.checkpoint);
        }
        clear_run(s);
        server_push(s, EVENT_RESTART, restart_after_ms);
}

void server_wipe(Server *s) {
        world_trace(s->world, s, "is wiped");
        world_count(s->world, "wiped-and-another-one");
        clear_run(s);
        raft_entries_reset(&s->storage.log, 1);
        state_done(&s->storage.checkpoint);
        state_done(&s->storage.state);
        s->storage = (ServerStorage) { .log = { .first = 1 } };
        s->id += ID_STEP;
        s->removed_ms = 0;
        s->used = false;
        snprintf(s->address, sizeof(s->address), "host%u:%" PRIu64, s->slot, s->id);
}

void server_result(Server *s, int r, const char *what) {
        if (r == 0) {
                if (s->up && !s->applying && raft_core_is_behind(s->core)) {
                        s->applying = true;
                        server_push(s, EVENT_APPLY, world_random(s->world, 100));
                }
                return;
        }

        if (r == -ERESTART) {
                s->world->count.restarts++;
                world_trace(s->world, s, "starts again from its disk");
                tear_writes(s);
                clear_run(s);
                server_boot(s);
                return;
        }
        check_failed(s->world, "server %" PRIu64 ": %s: %s", s->id, what, strerror(-r));
}

void server_boot(Server *s) {
        World *w = s->world;
        RaftStateInfo info = state_info(&s->storage.state);
        RaftCoreOptions options = {
                .id = s->id,
                .address = s->address,
                .seed = (unsigned) world_random(w, UINT32_MAX),
                .off = w->options.off,
        };
        RaftCoreStart start = {
                .term = s->storage.term,
                .vote = s->storage.vote,
                .state = &info,
                .first_index = s->storage.log.first,
                .entries = s->storage.log.items,
                .n_entries = s->storage.log.n,
        };
        int r;

        s->up = s->used = true;
        check_state(s, &s->storage.state);

        r = raft_core_log_fits(&start);
        if (r < 0) {
                check_failed(w,
                             "server %" PRIu64 ": entries are missing between its state (%" PRIu64
                             ") and its log (%" PRIu64 ")",
                             s->id, info.index, start.first_index);
                return;
        }
        if (r == 0 &&
            (!w->options.off.start_checks_term || raft_entries_last(&s->storage.log) < info.index)) {
                world_trace(w, s, "drops a log that ends at %" PRIu64, raft_entries_last(&s->storage.log));
                s->storage.previous_checkpoint = s->storage.checkpoint.index;
                state_assign(&s->storage.checkpoint, &s->storage.state);
                raft_entries_reset(&s->storage.log, info.index + 1);
                start.first_index = info.index + 1;
                start.entries = NULL;
                start.n_entries = 0;
        }

        world_trace(w, s, "boots: term %" PRIu64 ", state %" PRIu64 ", log %" PRIu64 "..%" PRIu64,
                    s->storage.term, info.index, start.first_index, start.first_index + start.n_entries - 1);
        r = raft_core_new(&options, &raft_world_ops, s, &s->core);
        assert(r == 0);
        server_result(s, raft_core_start(s->core, w->now_ms, &start), "start");
}

void server_checkpoint(Server *s) {
        if (!s->up || s->checkpointing || s->install != INSTALL_NONE ||
            s->storage.state.index <= s->storage.checkpoint.index)
                return;

        s->checkpointing = true;
        s->unreported = false;
        state_done(&s->copy);
        s->copy = raft_state_copy(&s->storage.state);
        server_push(s, EVENT_CHECKPOINT, 1 + world_random(s->world, 200));
}

/* Offers a durable checkpoint to the core until it takes it; then the log is cut behind the one before. */
static void report_checkpoint(Server *s) {
        RaftStateInfo info = state_info(&s->storage.checkpoint);
        int r;

        if (!s->unreported || !s->up)
                return;

        r = raft_core_checkpointed(s->core, s->world->now_ms, &info, s->trailing);
        if (r == -EAGAIN)
                return;
        s->unreported = false;
        if (r == -ESTALE)
                return;

        server_result(s, r, "checkpoint");
        if (r == 0 && s->up && s->world->failure[0] == 0) {
                uint64_t cut = s->world->options.bug == BUG_CUT_TOO_EARLY ? s->storage.state.index :
                                                                            s->storage.previous_checkpoint;

                server_queue_write(s, (LogWrite) { .kind = LOG_CUT, .first = cut });
        }
}

/* -- Events' effects -- */

static void on_disk(Server *s) {
        uint64_t generation = 0, last = 0;
        size_t n = s->n_writes > 1 ? 1 + world_random(s->world, s->n_writes) : s->n_writes;
        bool reset = false;

        for (size_t i = 0; i < n; i++) {
                make_durable(s, &s->writes[i], s->writes[i].n);
                if (s->writes[i].kind == LOG_APPEND) {
                        generation = s->writes[i].generation;
                        last = s->writes[i].first + s->writes[i].n - 1;
                }
                reset = reset || s->writes[i].kind == LOG_RESET;
                write_done(&s->writes[i]);
        }
        s->n_writes -= n;
        memmove(s->writes, s->writes + n, s->n_writes * sizeof(*s->writes));
        s->writing = s->n_writes > 0;
        if (s->writing)
                server_push(s, EVENT_DISK, 1 + world_random(s->world, s->disk_ms));

        if (generation > 0)
                server_result(s, raft_core_appended(s->core, s->world->now_ms, generation, last), "appended");
        if (reset && s->up && s->install == INSTALL_DROPPING) {
                s->install = INSTALL_NONE;
                state_done(&s->incoming);
                server_result(s, raft_core_installed(s->core, s->world->now_ms), "installed");
        }
}

/* Ack before sync: what is queued is reported as durable at once. */
static void report_early(Server *s) {
        const LogWrite *last;

        if (s->n_writes == 0 || !s->up)
                return;
        last = &s->writes[s->n_writes - 1];
        if (last->kind == LOG_APPEND)
                server_result(s,
                              raft_core_appended(s->core, s->world->now_ms, last->generation,
                                                 last->first + last->n - 1),
                              "appended");
}

static void on_install(Server *s) {
        uint64_t index = s->incoming.index;

        check_state(s, &s->incoming);
        if (s->incoming.index > s->storage.checkpoint.index) {
                s->storage.previous_checkpoint = s->storage.checkpoint.index;
                state_assign(&s->storage.checkpoint, &s->incoming);
        }
        if (!s->install_keeps)
                state_assign(&s->storage.state, &s->incoming);
        s->checkpointing = s->unreported = false;

        s->install = INSTALL_DROPPING;
        if (s->world->options.bug == BUG_INSTALL_KEEPS_LOG) {
                s->install = INSTALL_NONE;
                state_done(&s->incoming);
                server_result(s, raft_core_installed(s->core, s->world->now_ms), "installed");
                return;
        }
        server_queue_write(s, (LogWrite) { .kind = LOG_RESET, .first = index });
}

static void on_checkpoint(Server *s) {
        if (!s->checkpointing)
                return;

        s->checkpointing = false;
        if (s->copy.index > s->storage.checkpoint.index) {
                s->storage.previous_checkpoint = s->storage.checkpoint.index;
                state_assign(&s->storage.checkpoint, &s->copy);
                s->unreported = true;
        }
        state_done(&s->copy);
}

static void on_message(World *w, Server *s, Event *event) {
        Server *from = &w->servers[event->from];
        RaftMessage m;
        int r;

        if (event->bulk && from->incarnation == event->from_incarnation)
                from->sending_state[s->slot] = false;
        if (!s->up || event->incarnation != s->incarnation)
                return;

        r = raft_message_decode(event->bytes, event->size, &m);
        assert(r == 0);
        /* Results of an older connection are dropped: the transport's part. */
        if (from->incarnation == event->from_incarnation ||
            (m.type != RAFT_MESSAGE_APPEND_RESULT && m.type != RAFT_MESSAGE_VOTE_RESULT)) {
                if (event->bulk && s->install == INSTALL_NONE)
                        state_assign(&s->incoming, event->bulk);
                if (!event->bulk || s->install == INSTALL_NONE || w->options.off.one_install)
                        r = raft_core_receive(s->core, w->now_ms, event->from_id, from->address, &m);
                server_result(s, r, raft_message_type_name(m.type));
        }
        raft_message_done(&m);
}

static void handle(World *w, Event *event) {
        Server *s = &w->servers[event->slot];
        bool own = event->incarnation == s->incarnation;

        switch (event->kind) {
        case EVENT_MESSAGE:
                on_message(w, s, event);
                break;
        case EVENT_DISK:
                if (own && s->up)
                        on_disk(s);
                break;
        case EVENT_INSTALL:
                if (own && s->up)
                        on_install(s);
                break;
        case EVENT_CHECKPOINT:
                if (own && s->up)
                        on_checkpoint(s);
                break;
        case EVENT_APPLY:
                if (own && s->up) {
                        s->applying = false;
                        server_result(s, raft_core_apply(s->core, w->now_ms), "apply");
                }
                break;
        case EVENT_RESTART:
                if (own && !s->up)
                        server_boot(s);
                break;
        case EVENT_FAULT:
                world_fault(w);
                return;
        case EVENT_CLIENT:
                world_client(w);
                return;
        }

        if (w->options.bug == BUG_ACK_BEFORE_SYNC)
                report_early(s);
        if (s->up && !w->failure[0])
                report_checkpoint(s);
        if (s->up && !w->failure[0]) {
                check_after_event(s);
                w->hash = raft_mix(raft_mix(w->hash, w->now_ms * 8 + s->slot),
                                   raft_mix(raft_core_term(s->core),
                                            raft_core_last_index(s->core) * 31 + s->storage.state.chain));
        }
}

/* The server whose timer is due first; NULL if an event is due before. */
static Server *next_timer(World *w, uint64_t *ret_ms) {
        Server *next = NULL;

        for (unsigned i = 0; i < SLOTS; i++) {
                Server *s = &w->servers[i];
                uint64_t due;

                if (!s->up)
                        continue;
                due = MAX(raft_core_timeout_ms(s->core), s->stalled_until_ms);
                if (!next || due < *ret_ms) {
                        next = s;
                        *ret_ms = due;
                }
        }
        return next && (w->n_heap == 0 || *ret_ms < w->heap[0].at_ms) ? next : NULL;
}

bool world_step(World *w) {
        uint64_t due = 0;
        Server *s = next_timer(w, &due);
        Event event;

        w->count.events++;
        if (s) {
                w->now_ms = MAX(w->now_ms, due);
                server_result(s, raft_core_tick(s->core, w->now_ms), "tick");
                if (s->up && !w->failure[0])
                        check_after_event(s);
                return !w->failure[0];
        }

        assert(w->n_heap > 0);
        event = pop(w);
        w->now_ms = MAX(w->now_ms, event.at_ms);
        s = &w->servers[event.slot];
        if (event.kind < EVENT_RESTART && s->stalled_until_ms > w->now_ms) {
                event.at_ms = s->stalled_until_ms;
                world_push(w, event);
                return true;
        }
        handle(w, &event);
        event_done(&event);
        return !w->failure[0];
}

/* -- The world -- */

/* The founders' common first entry. */
static void found(World *w, unsigned n) {
        RaftServer items[SLOTS];
        RaftServers servers = { .items = items, .n = n };
        RaftEntry entry = { .term = 1, .type = RAFT_ENTRY_CHANGE };
        void *bytes;
        int r;

        for (unsigned i = 0; i < n; i++)
                items[i] = (RaftServer) { .id = w->servers[i].id,
                                          .address = w->servers[i].address,
                                          .role = RAFT_ROLE_VOTER };
        r = raft_configuration_encode_servers(&servers, &bytes, &entry.size);
        assert(r == 0);
        entry.data = bytes;
        for (unsigned i = 0; i < n; i++) {
                w->servers[i].storage.term = 1;
                r = raft_entries_append(&w->servers[i].storage.log, &entry);
                assert(r == 0);
                server_boot(&w->servers[i]);
        }
        free(bytes);
}

World *world_new(uint64_t seed, SimMode mode, const SimOptions *options) {
        static const unsigned founders[] = { [MODE_FIXED] = SLOTS, [MODE_CHANGES] = 3, [MODE_GROW] = 1 };
        World *w = NEW0(World, 1);

        if (!w)
                abort();

        w->options = *options;
        w->mode = mode;
        w->seed = seed;
        w->now_ms = 1000;
        w->delay_max_ms = 5;
        random_seed(&w->random, seed * _MODE_MAX + mode);
        for (unsigned i = 0; i < SLOTS; i++) {
                Server *s = &w->servers[i];

                *s = (Server) { .world = w,
                                .slot = i,
                                .id = i + 1,
                                .disk_ms = 3,
                                .trailing = (unsigned) world_random(w, 20) };
                s->storage.log.first = 1;
                snprintf(s->address, sizeof(s->address), "host%u:%" PRIu64, i, s->id);
        }
        found(w, founders[mode]);
        world_push(w, (Event) { .at_ms = w->now_ms + 10, .kind = EVENT_CLIENT });
        world_push(w, (Event) { .at_ms = w->now_ms + 500, .kind = EVENT_FAULT });
        return w;
}

World *world_free(World *w) {
        for (unsigned i = 0; i < SLOTS; i++) {
                Server *s = &w->servers[i];

                clear_run(s);
                raft_entries_reset(&s->storage.log, 1);
                state_done(&s->storage.checkpoint);
                state_done(&s->storage.state);
                free(s->writes);
        }
        for (size_t i = 0; i < w->n_heap; i++)
                event_done(&w->heap[i]);
        free(w->heap);
        free(w->committed);
        free(w->leaders);
        free(w);
        return NULL;
}
