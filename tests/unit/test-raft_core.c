/* One core among servers that the test plays: what it asks for is written down, line by line.
 *
 * RULE_OFF=NAME switches one rule off (tests/lib/raft_rules.h): then the test of that rule must fail. */

#include "tests/lib/test.h"
#include "kvstore/raft/core_internal.h"
#include "tests/lib/alloc.h"
#include "tests/lib/raft_names.h"
#include "tests/lib/raft_rules.h"

typedef struct Bench {
        RaftCore *core;
        Text said; /* what the core asked for since the last look */
        uint64_t now_ms;
        uint64_t generation, written; /* the last append's, and its last index */
        int apply_error, meta_error;
        size_t slice; /* entries that apply() takes at once; 0: all */
        bool later;   /* it takes none */
        RaftRulesOff off;
        unsigned changed; /* RAFT_CHANGED_ bits told since the last look */
        RaftMessage sent; /* last; without what it borrows */
} Bench;

static int on_write_meta(void *userdata, uint64_t term, uint64_t vote) {
        Bench *b = userdata;

        assert_true(b->core->busy); /* no input comes from inside another one */
        text_printf(&b->said, "meta %" PRIu64 " %" PRIu64 "\n", term, vote);
        return b->meta_error;
}

static int on_append(void *userdata, uint64_t generation, uint64_t first, const RaftEntry *entries,
                     size_t n) {
        Bench *b = userdata;

        assert_true(b->core->busy);
        text_printf(&b->said, "append %" PRIu64 "..%" PRIu64 "\n", first, first + n - 1);
        b->generation = generation;
        b->written = first + n - 1;
        return 0;
}

static void on_send(void *userdata, uint64_t to, const char *address, const RaftMessage *m) {
        Text *said = &((Bench *) userdata)->said;

        assert_true(((Bench *) userdata)->core->busy);
        ((Bench *) userdata)->sent = *m;
        text_printf(said, "send %" PRIu64 " %s %" PRIu64, to, raft_message_type_name(m->type), m->term);
        switch (m->type) {
        case RAFT_MESSAGE_APPEND:
                if (m->append.n_entries > 0)
                        assert_ptr_equal(m->append.entries, raft_core_entry(((Bench *) userdata)->core,
                                                                            m->append.prev_index + 1));
                text_printf(said, " behind %" PRIu64 " %zu\n", m->append.prev_index, m->append.n_entries);
                return;
        case RAFT_MESSAGE_APPEND_RESULT:
                text_printf(said, " rejected %" PRIu64 " last %" PRIu64 "\n", m->append_result.rejected,
                            m->append_result.last_index);
                return;
        case RAFT_MESSAGE_VOTE:
                text_printf(said, "%s\n", m->vote.pre_vote ? " pre" : "");
                return;
        case RAFT_MESSAGE_VOTE_RESULT:
                text_printf(said, " %s\n", m->vote_result.granted ? "granted" : "refused");
                return;
        default:
                text_append_char(said, '\n');
        }
}

static void on_send_snapshot(void *userdata, uint64_t to, const char *address, uint64_t term,
                             uint64_t index) {
        text_printf(&((Bench *) userdata)->said, "snapshot %" PRIu64 " at %" PRIu64 "\n", to, index);
}

static int on_install(void *userdata, const RaftStateInfo *info, bool keep_state) {
        text_printf(&((Bench *) userdata)->said, "install %" PRIu64 "%s\n", info->index,
                    keep_state ? " keep" : "");
        return 0;
}

static int on_apply(void *userdata, uint64_t first, const RaftEntry *entries, size_t n) {
        Bench *b = userdata;

        assert_true(b->core->busy);
        assert_true(n > 0);
        if (b->later)
                return 0;
        if (b->slice > 0)
                n = MIN(n, b->slice);
        text_printf(&b->said, "apply %" PRIu64 "..%" PRIu64 "\n", first, first + n - 1);
        return b->apply_error < 0 ? b->apply_error : (int) n;
}

static void on_changed(void *userdata, unsigned what) {
        assert_int_not_equal(what, 0);
        assert_true(((Bench *) userdata)->core->busy);
        ((Bench *) userdata)->changed |= what;
}

static unsigned take_changed(Bench *b) {
        unsigned changed = b->changed;

        b->changed = 0;
        return changed;
}

static const RaftCoreOps ops = {
        .write_meta = on_write_meta,
        .append = on_append,
        .send = on_send,
        .send_snapshot = on_send_snapshot,
        .install = on_install,
        .apply = on_apply,
        .changed = on_changed,
};

/* Compares what was asked for since the last look. */
static void assert_said(Bench *b, const char *expected) {
        assert_string_equal(b->said.chars ? b->said.chars : "", expected);
        text_clear(&b->said);
}

static bool has_said(Bench *b, const char *line) {
        bool found = b->said.chars && strstr(b->said.chars, line);

        text_clear(&b->said);
        return found;
}

#define START(b, result, ...) \
        assert_int_equal(raft_core_start((b)->core, (b)->now_ms, &(RaftCoreStart) { __VA_ARGS__ }), result)
static int receive(Bench *b, uint64_t from, RaftMessage m) {
        return raft_core_receive(b->core, b->now_ms, from, "x:1", &m);
}

#define RECEIVE(b, from, result, ...) \
        assert_int_equal(receive(b, from, (RaftMessage) { __VA_ARGS__ }), result)

/* -- Configurations and logs -- */

typedef struct Conf {
        void *bytes;
        size_t size;
} Conf;

/* "VVs": servers 1, 2 vote, 3 is a standby. */
static Conf conf_of(const char *roles) {
        static const char *const addresses[] = { "a:1", "b:1", "c:1", "d:1", "e:1" };
        RaftServer items[5];
        RaftServers servers = { .items = items };
        Conf conf;

        for (; roles[servers.n]; servers.n++)
                items[servers.n] = (RaftServer) {
                        .id = servers.n + 1,
                        .address = (char *) addresses[servers.n],
                        .role = roles[servers.n] == 'V' ? RAFT_ROLE_VOTER :
                                roles[servers.n] == 's' ? RAFT_ROLE_STANDBY :
                                                          RAFT_ROLE_SPARE,
                };
        assert_int_equal(raft_configuration_encode_servers(&servers, &conf.bytes, &conf.size), 0);
        return conf;
}

static void conf_done(Conf *conf) {
        free(conf->bytes);
}
#define _cleanup_conf_ _cleanup_(conf_done)

static RaftStateInfo state_of(uint64_t index, uint64_t term, const Conf *conf) {
        return (RaftStateInfo) { .index = index,
                                 .term = term,
                                 .configuration_index = 1,
                                 .configuration = conf->bytes,
                                 .configuration_size = conf->size };
}

static RaftEntry change_entry(uint64_t term, const Conf *conf) {
        return (RaftEntry) {
                .term = term, .type = RAFT_ENTRY_CHANGE, .data = conf->bytes, .size = conf->size
        };
}

static RaftEntry command(uint64_t term) {
        return (RaftEntry) { .term = term, .type = RAFT_ENTRY_COMMAND, .data = "do", .size = 2 };
}

static void begin_with(Bench *b, uint64_t id) {
        const char *off = getenv("RULE_OFF");

        *b = (Bench) { .now_ms = 1000 };
        assert_true(!off || raft_rule_off(&b->off, off) == 0);
        assert_int_equal(
                raft_core_new(&(RaftCoreOptions) { .id = id, .address = "a:1", .seed = 7, .off = b->off },
                              &ops, b, &b->core),
                0);
}

static void done(Bench *b) {
        raft_core_free(b->core);
        text_done(&b->said);
}

/* Server 1, with the configuration as its first entry, and commands of 'term' up to 'last'. */
static void start(Bench *b, const char *roles, uint64_t term, uint64_t last) {
        _cleanup_conf_ Conf conf = conf_of(roles);
        RaftEntry entries[200];

        assert_true(last <= ELEMENTS(entries));
        entries[0] = change_entry(1, &conf);
        for (uint64_t i = 1; i < last; i++)
                entries[i] = command(term);
        begin_with(b, 1);
        START(b, 0, .term = term, .first_index = 1, .entries = entries, .n_entries = last);
        text_clear(&b->said);
}

/* Server 1 with a state at 'index', and nothing else. */
static void start_from_state(Bench *b, const char *roles, uint64_t term, uint64_t index) {
        _cleanup_conf_ Conf conf = conf_of(roles);
        RaftStateInfo info = state_of(index, term, &conf);

        begin_with(b, 1);
        START(b, 0, .term = term, .state = &info, .first_index = index + 1);
        text_clear(&b->said);
}

static int receive_append(Bench *b, uint64_t from, uint64_t term, uint64_t prev, uint64_t prev_term,
                          uint64_t commit, RaftEntry *entries, size_t n) {
        RaftMessage m = { .type = RAFT_MESSAGE_APPEND, .term = term };

        m.append.prev_index = prev;
        m.append.prev_term = prev_term;
        m.append.commit = commit;
        m.append.entries = entries;
        m.append.n_entries = n;
        return receive(b, from, m);
}

static int receive_result(Bench *b, uint64_t from, uint64_t last) {
        return receive(b, from,
                       (RaftMessage) { .type = RAFT_MESSAGE_APPEND_RESULT,
                                       .term = raft_core_term(b->core),
                                       .append_result = { .last_index = last } });
}

static int receive_snapshot(Bench *b, uint64_t from, uint64_t term, uint64_t index, const Conf *conf) {
        return receive(b, from,
                       (RaftMessage) { .type = RAFT_MESSAGE_SNAPSHOT,
                                       .term = term,
                                       .snapshot = { index, term, 1, conf->bytes, conf->size } });
}

static int durable(Bench *b) {
        return raft_core_appended(b->core, b->now_ms, b->generation, b->written);
}

static void tick_until_due(Bench *b) {
        b->now_ms = raft_core_timeout_ms(b->core);
        assert_int_equal(raft_core_tick(b->core, b->now_ms), 0);
}

/* Wins the election with the votes of 2 (and 3). */
static void elect(Bench *b) {
        uint64_t term = raft_core_term(b->core) + 1;

        tick_until_due(b);
        assert_true(has_said(b, " pre\n"));
        for (uint64_t pre = 2; pre-- > 0;)
                for (uint64_t from = 2; from <= 3; from++) {
                        RECEIVE(b, from, 0, .type = RAFT_MESSAGE_VOTE_RESULT, .term = term,
                                .vote_result = { true, pre > 0 });
                        if (raft_core_state(b->core) == RAFT_STATE_LEADER)
                                break;
                }
        assert_int_equal(raft_core_state(b->core), RAFT_STATE_LEADER);
        text_clear(&b->said);
}

/* Elected, its barrier is committed, and 2 .. n follow. */
static void lead(Bench *b, unsigned n) {
        uint64_t last;

        elect(b);
        last = raft_core_last_index(b->core);
        if (raft_core_stored_index(b->core) < last)
                assert_int_equal(durable(b), 0);
        for (uint64_t from = 2; from <= n; from++)
                assert_int_equal(receive_result(b, from, last), 0);
        assert_true(raft_core_leads(b->core));
        text_clear(&b->said);
}

/* -- Starting and leading alone -- */

static void a_sole_voter_leads_in_a_new_term_that_it_voted_for(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "V", 4, 1);
        assert_int_equal(raft_core_term(b.core), 5);
        assert_int_equal(b.core->raft.voted_for, 1);
        assert_int_equal(raft_core_state(b.core), RAFT_STATE_LEADER);
        assert_false(raft_core_leads(b.core));
        assert_int_equal(raft_core_last_index(b.core), 2); /* its barrier */
        assert_int_equal(durable(&b), 0);
        assert_said(&b, "apply 2..2\n");
        assert_true(raft_core_leads(b.core));
}

static void a_sole_voter_that_lost_its_term_takes_a_new_one_when_it_leads_again(void **state) {
        Bench b;

        start(&b, "Vs", 4, 1);
        assert_int_equal(durable(&b), 0);
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_APPEND_RESULT, .term = 9);
        assert_int_equal(raft_core_state(b.core), RAFT_STATE_FOLLOWER);
        text_clear(&b.said);
        tick_until_due(&b);
        assert_int_equal(raft_core_state(b.core), RAFT_STATE_LEADER);
        assert_int_equal(raft_core_term(b.core), 10);
        assert_true(has_said(&b, "meta 10 1\n"));
        assert_int_equal(b.core->raft.voted_for, 1);
        done(&b);

        start(&b, "Vs", 4, 1);
        assert_int_equal(durable(&b), 0);
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_APPEND_RESULT, .term = 9);
        b.meta_error = -EIO;
        b.now_ms = raft_core_timeout_ms(b.core);
        assert_int_equal(raft_core_tick(b.core, b.now_ms), -EIO);
        assert_int_equal(raft_core_error(b.core), -EIO);
        assert_int_equal(raft_core_term(b.core), 9);
        done(&b);
}

static void whether_a_log_fits_its_state(void **state) {
        RaftEntry entries[] = { command(3), command(3), command(4) };
        const struct {
                uint64_t index, term, first;
                size_t n;
                int fits;
        } cases[] = {
                { 0, 0, 1, 0, 1 },                                  /* fresh */
                { 0, 0, 1, 3, 1 },        { 0, 0, 2, 3, -EUCLEAN }, /* the beginning is missing */
                { 6, 4, 4, 3, 1 },                                  /* ends with the state */
                { 5, 3, 4, 3, 1 },        { 3, 9, 4, 3, 1 },        /* begins right behind it */
                { 2, 2, 4, 3, -EUCLEAN },                           /* a gap */
                { 7, 4, 4, 3, 0 },                                  /* ends before */
                { 5, 9, 4, 3, 0 },                                  /* another term there */
                { 5, 9, 1, 0, 0 },                                  /* nothing at all, and not in place */
                { 5, 9, 6, 0, 1 },        { 5, 9, 8, 0, 0 },
                { 1, 9, 3, 0, 0 },        { 0, 0, 2, 0, -EUCLEAN },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                RaftStateInfo info = { .index = cases[i].index, .term = cases[i].term };
                RaftCoreStart s = { .term = 9,
                                    .state = &info,
                                    .first_index = cases[i].first,
                                    .entries = entries,
                                    .n_entries = cases[i].n };

                assert_int_equal(raft_core_log_fits(&s), cases[i].fits);
        }
}

static void a_core_needs_an_id_and_an_address(void **state) {
        char address[RAFT_ADDRESS_MAX + 2];
        RaftCore *core = NULL;

        memset(address, 'a', sizeof(address));
        address[RAFT_ADDRESS_MAX + 1] = 0;
        assert_int_equal(raft_core_new(&(RaftCoreOptions) { .address = "a:1" }, &ops, NULL, &core), -EINVAL);
        assert_int_equal(raft_core_new(&(RaftCoreOptions) { .id = 1 }, &ops, NULL, &core), -EINVAL);
        assert_int_equal(raft_core_new(&(RaftCoreOptions) { .id = 1, .address = address }, &ops, NULL, &core),
                         -EINVAL);
        address[RAFT_ADDRESS_MAX] = 0;
        assert_int_equal(raft_core_new(&(RaftCoreOptions) { .id = 1, .address = address }, &ops, NULL, &core),
                         0);
        raft_core_free(core);
}

/* An election is due after one to two time-outs, by chance; a heartbeat, after 150 ms. */
static void times_that_are_not_given_are_the_defaults(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        RaftEntry entry = change_entry(1, &conf);
        uint64_t first = 0;
        bool differ = false;
        Bench b;

        for (unsigned seed = 1; seed <= 10; seed++) {
                uint64_t in_ms;

                b = (Bench) { .now_ms = 1000 };
                assert_int_equal(raft_core_new(&(RaftCoreOptions) { .id = 1, .address = "a:1", .seed = seed },
                                               &ops, &b, &b.core),
                                 0);
                START(&b, 0, .term = 1, .first_index = 1, .entries = &entry, .n_entries = 1);
                in_ms = raft_core_timeout_ms(b.core) - b.now_ms;
                assert_in_range(in_ms, 400, 800);
                first = first ?: in_ms;
                differ |= in_ms != first;
                done(&b);
        }
        assert_true(differ);

        start(&b, "VVV", 2, 5);
        lead(&b, 3);
        assert_in_range(raft_core_timeout_ms(b.core) - b.now_ms, 76, 150);
        assert_int_equal(b.core->raft.election_timeout, 400);
        assert_int_equal(b.core->raft.heartbeat_timeout, 150);
        assert_int_equal(b.core->raft.install_snapshot_timeout, 10000);
        assert_int_equal(b.core->raft.max_inflight_entries, RAFT_MESSAGE_ENTRIES_MAX);
        assert_null(b.core->raft.tracer);
        done(&b);

        b = (Bench) { .now_ms = 1000 };
        assert_int_equal(raft_core_new(
                                 &(RaftCoreOptions) {
                                         .id = 7, .address = "a:1", .election_ms = 500, .heartbeat_ms = 100 },
                                 &ops, &b, &b.core),
                         0);
        assert_int_equal(b.core->raft.election_timeout, 500);
        assert_int_equal(b.core->raft.heartbeat_timeout, 100);
        assert_int_equal(raft_core_id(b.core), 7);
        assert_int_equal(raft_core_first_index(b.core), 1);
        assert_int_equal(raft_core_last_index(b.core), 0);
        assert_int_equal(raft_core_entries_bytes(b.core), 0);
        done(&b);
        assert_null(raft_core_free(NULL));
}

/* Memory of the engine: so many allocations succeed, then all fail, or one. None of them counts for those
 * that fail elsewhere. */
static unsigned heap_left;
static bool heap_failed, heap_fails_once;

static void *heap_realloc(void *data, void *p, size_t size) {
        void *q;

        if (heap_left == 0) {
                heap_failed = true;
                heap_left = heap_fails_once ? UINT_MAX : 0;
                return NULL;
        }
        heap_left--;
        alloc_pause(true);
        q = realloc(p, size);
        alloc_pause(false);
        return q;
}

static void *heap_malloc(void *data, size_t size) {
        return heap_realloc(data, NULL, size);
}

static void *heap_calloc(void *data, size_t n, size_t size) {
        void *p = heap_realloc(data, NULL, n * size);

        return p ? memset(p, 0, n * size) : NULL;
}

static void heap_free(void *data, void *p) {
        free(p);
}

static struct raft_heap heap = {
        .malloc = heap_malloc, .free = heap_free, .calloc = heap_calloc, .realloc = heap_realloc
};

static void a_core_without_memory_says_so(void **state) {
        RaftEntry entry = command(2);
        uint64_t index = 77, term = 77;
        RaftCore *core = NULL;
        Bench b;
        int r;

        alloc_fail_at(1);
        assert_int_equal(raft_core_new(&(RaftCoreOptions) { .id = 1, .address = "a:1" }, &ops, &b, &core),
                         -ENOMEM);
        alloc_fail_at(0);
        assert_null(core);

        heap_left = 0;
        raft_heap_set(&heap);
        r = raft_core_new(&(RaftCoreOptions) { .id = 1, .address = "a:1" }, &ops, &b, &core);
        raft_heap_set_default();
        assert_int_equal(r, -ENOMEM);
        assert_null(core);

        start(&b, "V", 4, 1);
        assert_int_equal(durable(&b), 0);
        raft_heap_set(&heap);
        r = raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term);
        raft_heap_set_default();
        assert_int_equal(r, -ENOMEM);
        assert_int_equal(index, 77);
        assert_int_equal(raft_core_error(b.core), -ENOMEM);
        done(&b);

        /* A configuration that becomes committed is read. */
        start(&b, "VVV", 2, 1);
        raft_heap_set(&heap);
        r = receive_append(&b, 2, 2, 1, 1, 1, NULL, 0);
        raft_heap_set_default();
        assert_int_equal(r, -ENOMEM);
        done(&b);

        /* Entries are received, for which the engine needs none itself. */
        start(&b, "VVV", 2, 1);
        heap_fails_once = true;
        raft_heap_set(&heap);
        r = receive_append(&b, 2, 2, 1, 1, 0, &entry, 1);
        raft_heap_set_default();
        heap_fails_once = false;
        heap_left = 0;
        assert_int_equal(r, -ENOMEM);
        assert_false(has_said(&b, "append 2"));
        done(&b);
}

static void errors_of_the_engine_are_those_of_the_system(void **state) {
        static const struct {
                int rv, error;
        } cases[] = {
                { 0, 0 },
                { RAFT_NOMEM, -ENOMEM },
                { RAFT_BADID, -EINVAL },
                { RAFT_DUPLICATEID, -EEXIST },
                { RAFT_DUPLICATEADDRESS, -EEXIST },
                { RAFT_BADROLE, -EINVAL },
                { RAFT_MALFORMED, -EBADMSG },
                { RAFT_NOTLEADER, -EREMOTE },
                { RAFT_LEADERSHIPLOST, -ECONNABORTED },
                { RAFT_SHUTDOWN, -ESHUTDOWN },
                { RAFT_CANTBOOTSTRAP, -ENOTEMPTY },
                { RAFT_CANTCHANGE, -EBUSY },
                { RAFT_CORRUPT, -EUCLEAN },
                { RAFT_CANCELED, -ECANCELED },
                { RAFT_NAMETOOLONG, -ENAMETOOLONG },
                { RAFT_TOOBIG, -EFBIG },
                { RAFT_NOCONNECTION, -ENOTCONN },
                { RAFT_BUSY, -EAGAIN },
                { RAFT_IOERR, -EIO },
                { RAFT_NOTFOUND, -ENOENT },
                { RAFT_INVALID, -EINVAL },
                { RAFT_UNAUTHORIZED, -EACCES },
                { RAFT_NOSPACE, -ENOSPC },
                { RAFT_TOOMANY, -EMFILE },
                { RAFT_TOOMANY + 1, -EIO },
                { 1000, -EIO },
                { -1, -EIO },
                { -1000, -EIO },
        };

        for (size_t i = 0; i < ELEMENTS(cases); i++)
                assert_int_equal(raft_errno(cases[i].rv), cases[i].error);
}

/* The configuration that counts is the last one of log and state. */
static void a_sole_voter_by_its_state_or_by_the_log_behind_it_begins_a_new_term(void **state) {
        static const struct {
                const char *of_state, *of_log;
                uint64_t term;
        } cases[] = { { "V", NULL, 5 },  { "VVV", NULL, 4 }, { "VVV", "V", 5 },
                      { "V", "VVV", 4 }, { "Vs", NULL, 5 },  { "sV", NULL, 4 } };

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_conf_ Conf old = conf_of(cases[i].of_state), new = conf_of(cases[i].of_log ?: "V");
                RaftStateInfo info = state_of(10, 4, &old);
                RaftEntry entries[] = { command(4), change_entry(4, &new), command(4) };
                _cleanup_(done) Bench b;

                begin_with(&b, 1);
                START(&b, 0, .term = 4, .state = &info, .first_index = 11, .entries = entries,
                      .n_entries = cases[i].of_log ? 3 : 0);
                assert_int_equal(raft_core_term(b.core), cases[i].term);
        }
}

static void a_log_with_a_configuration_that_is_none_is_not_started_from(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        RaftEntry entries[] = { { .term = 1, .type = RAFT_ENTRY_CHANGE, .data = "nonsense", .size = 8 },
                                change_entry(1, &conf) };
        _cleanup_(done) Bench b;

        begin_with(&b, 1);
        START(&b, -EUCLEAN, .term = 1, .first_index = 1, .entries = entries, .n_entries = 2);
}

static void a_log_that_does_not_fit_is_not_started_from(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        RaftStateInfo info = state_of(5, 2, &conf);
        RaftEntry entries[] = { command(1) };
        _cleanup_(done) Bench b;

        begin_with(&b, 1);
        assert_int_equal(raft_core_start(b.core, 1000,
                                         &(RaftCoreStart) { .term = 2,
                                                            .state = &info,
                                                            .first_index = 4,
                                                            .entries = entries,
                                                            .n_entries = 1 }),
                         -EUCLEAN);
}

static void a_core_that_cannot_start_for_want_of_memory_says_so(void **state) {
        enum { OWN = 13 }; /* two configurations of three servers, and a table of entries */
        _cleanup_conf_ Conf of_state = conf_of("VVV"), of_log = conf_of("VVs");
        RaftStateInfo info = state_of(10, 4, &of_state);

        heap_fails_once = true;
        for (unsigned n = 0; n < OWN;
             n++) { /* without those of libraft, which frees twice what it could not copy */
                RaftEntry entries[] = { command(4), change_entry(4, &of_log), command(4) };
                _cleanup_(done) Bench b;
                int r;

                begin_with(&b, 1);
                heap_failed = false;
                heap_left = n;
                raft_heap_set(&heap);
                r = raft_core_start(b.core, b.now_ms,
                                    &(RaftCoreStart) { .term = 4,
                                                       .state = &info,
                                                       .first_index = 11,
                                                       .entries = entries,
                                                       .n_entries = 3 });
                raft_heap_set_default();
                assert_true(heap_failed);
                assert_int_equal(r, -ENOMEM);
        }
        heap_fails_once = false;
        heap_left = 0;
}

static void submitting_is_the_leaders_and_bounded(void **state) {
        _cleanup_free_ char *large = calloc(1, RAFT_ENTRY_SIZE_MAX + 1);
        uint64_t index, term;
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), -EREMOTE);
        lead(&b, 3);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, large, RAFT_ENTRY_SIZE_MAX + 1, &index, &term),
                         -EFBIG);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, large, RAFT_ENTRY_SIZE_MAX, &index, &term), 0);
        for (unsigned i = 1; i < RAFT_CORE_UNCOMMITTED_MAX; i++)
                assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0);
        assert_int_equal(term, raft_core_term(b.core));
        assert_int_equal(index, raft_core_last_index(b.core));
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), -EAGAIN);
}

static void what_the_owner_does_not_apply_at_once_follows_in_slices(void **state) {
        uint64_t index, term;
        _cleanup_(done) Bench b;

        start(&b, "V", 4, 1);
        assert_int_equal(durable(&b), 0);
        text_clear(&b.said);
        for (unsigned i = 0; i < 5; i++)
                assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0);
        text_clear(&b.said);

        b.slice = 2;
        assert_int_equal(durable(&b), 0);
        assert_said(&b, "apply 3..4\n");
        assert_true(raft_core_is_behind(b.core));
        assert_int_equal(raft_core_applied_index(b.core), 4);
        assert_int_equal(raft_core_commit_index(b.core), 7);

        (void) take_changed(&b);
        assert_int_equal(raft_core_apply(b.core, b.now_ms), 0);
        assert_int_equal(take_changed(&b),
                         RAFT_CHANGED_COMMIT); /* there is more to read, though nothing more is committed */
        assert_said(&b, "apply 5..6\n");
        b.later = true;
        assert_int_equal(raft_core_apply(b.core, b.now_ms), 0);
        assert_said(&b, "");
        assert_true(raft_core_is_behind(b.core));
        assert_int_equal(raft_core_applied_index(b.core), 6);
        b.later = false;
        assert_int_equal(raft_core_tick(b.core, b.now_ms), 0); /* any input goes on with it */
        assert_said(&b, "apply 7..7\n");
        assert_false(raft_core_is_behind(b.core));
        assert_int_equal(raft_core_apply(b.core, b.now_ms), 0);
        assert_said(&b, "");
}

static void a_leader_that_is_behind_with_applying_takes_nothing_new(void **state) {
        uint64_t index, term;
        _cleanup_(done) Bench b;

        start(&b, "V", 4, 1);
        assert_int_equal(durable(&b), 0);
        b.slice = 1;
        for (unsigned i = 0; i < RAFT_CORE_UNCOMMITTED_MAX; i++)
                assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(raft_core_commit_index(b.core), index);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0); /* one was applied */
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0);
        while (raft_core_is_behind(b.core))
                assert_int_equal(raft_core_apply(b.core, b.now_ms), 0);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0);
}

static void a_state_that_is_installed_ends_what_was_to_be_applied(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVVV");
        RaftEntry entries[] = { command(1), command(1), command(1), command(1), command(1) };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        b.slice = 1;
        assert_int_equal(receive_append(&b, 2, 1, 1, 1, 1, entries, ELEMENTS(entries)), 0);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_append(&b, 2, 1, 6, 1, 6, NULL, 0), 0);
        assert_true(raft_core_is_behind(b.core));
        text_clear(&b.said);
        assert_int_equal(receive_snapshot(&b, 2, 1, 60, &conf), 0);
        assert_true(raft_core_installing(b.core));
        assert_false(raft_core_is_behind(b.core));
        assert_int_equal(raft_core_apply(b.core, b.now_ms), 0);
        assert_false(has_said(&b, "apply"));
        assert_int_equal(raft_core_installed(b.core, b.now_ms), 0);
        assert_int_equal(raft_core_applied_index(b.core), 60);
        assert_false(raft_core_is_behind(b.core));
        assert_int_equal(raft_core_servers(b.core)->n, 4);
}

/* Its configuration is encoded for the disk. */
static void a_state_that_comes_without_memory_is_not_installed(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVVV");
        bool failed = true;

        for (unsigned n = 1; failed; n++) {
                _cleanup_(done) Bench b;
                int r;

                start(&b, "VVV", 1, 1);
                heap_left = UINT_MAX;
                raft_heap_set(&heap);
                alloc_fail_at(n);
                r = receive_snapshot(&b, 2, 1, 60, &conf);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                raft_heap_set_default();
                heap_left = 0;
                assert_int_equal(r, failed ? -ENOMEM : 0);
                assert_int_equal(has_said(&b, "install 60"), !failed);
        }

        for (unsigned n = 0; n < 5; n++) { /* of the engine those that read its configuration */
                _cleanup_(done) Bench b;

                start(&b, "VVV", 1, 1);
                heap_failed = false;
                heap_left = n;
                heap_fails_once = true;
                raft_heap_set(&heap);
                assert_int_equal(receive_snapshot(&b, 2, 1, 60, &conf), -ENOMEM);
                raft_heap_set_default();
                heap_fails_once = false;
                heap_left = 0;
                assert_true(heap_failed);
        }
}

static void a_follower_that_there_is_no_memory_for_is_watched_later(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVs", 2, 1);
        lead(&b, 2);
        b.core->n_peers = 0;
        b.core->peers_capacity = (free(b.core->peers), b.core->peers = NULL, 0);
        heap_left = UINT_MAX;
        raft_heap_set(&heap);
        alloc_fail_at(1);
        assert_int_equal(raft_core_tick(b.core, b.now_ms), 0);
        assert_true(alloc_has_failed());
        alloc_fail_at(0);
        assert_int_equal(b.core->n_peers, 0);
        assert_int_equal(raft_core_tick(b.core, b.now_ms), 0);
        assert_int_equal(b.core->n_peers, 1);
        raft_heap_set_default();
        heap_left = 0;
}

static void a_message_of_no_type_is_dropped(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_TIMEOUT_NOW + 1, .term = 9);
        RECEIVE(&b, 2, 0, .term = 9);
        assert_int_equal(raft_core_term(b.core), 1);
        assert_said(&b, "");
}

static void a_rule_that_is_off_changes_nothing(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        RaftEntry entries[] = { command(1), change_entry(1, &conf), command(1) };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        assert_int_equal(rule_split_at_change(b.core, entries, 3), 1);
        assert_int_equal(rule_snapshot_stored_only(b.core, &(RaftStateInfo) { .index = 9 }), -EAGAIN);
        b.core->off.split_at_change = b.core->off.snapshot_stored_only = true;
        assert_int_equal(rule_split_at_change(b.core, entries, 3), 3);
        assert_int_equal(rule_snapshot_stored_only(b.core, &(RaftStateInfo) { .index = 9 }), 0);
}

/* -- The engine's defects -- */

static void an_old_terms_leader_learns_the_term_and_no_index(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        _cleanup_(done) Bench b;

        start(&b, "VVV", 5, 10);
        assert_int_equal(receive_append(&b, 2, 3, 0, 0, 0, NULL, 0), 0);
        assert_said(&b, "send 2 append-result 5 rejected 0 last 0\n");
        assert_int_equal(receive_append(&b, 2, 3, 8, 3, 0, NULL, 0), 0);
        assert_said(&b, "send 2 append-result 5 rejected 0 last 0\n");
        assert_int_equal(receive_snapshot(&b, 2, 3, 50, &conf), 0);
        assert_said(&b, "send 2 append-result 5 rejected 0 last 0\n");
}

static void a_refused_pre_vote_learns_the_higher_term(void **state) {
        RaftMessage vote = { .type = RAFT_MESSAGE_VOTE,
                             .term = 3,
                             .vote = { .candidate = 2, .last_index = 90, .last_term = 3, .pre_vote = true } };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 5, 10);
        assert_int_equal(receive(&b, 2, vote), 0);
        assert_said(&b, "send 2 vote-result 5 refused\n");
        vote.term = 9; /* its own is the higher one */
        vote.vote.last_index = vote.vote.last_term = 1;
        assert_int_equal(receive(&b, 2, vote), 0);
        assert_said(&b, "send 2 vote-result 9 refused\n");
}

static void an_unrequested_vote_is_dropped(void **state) {
        RaftMessage result = { .type = RAFT_MESSAGE_VOTE_RESULT, .term = 5, .vote_result = { true, false } };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 5, 10);
        assert_int_equal(receive(&b, 2, result), 0);
        assert_said(&b, "");
        assert_int_equal(raft_core_state(b.core), RAFT_STATE_FOLLOWER);
        result.term = 9; /* the engine never sees it: it would take the term over */
        assert_int_equal(receive(&b, 2, result), 0);
        assert_said(&b, "");
        assert_int_equal(raft_core_term(b.core), 5);
        result.term = 5;
        lead(&b, 3);
        assert_int_equal(receive(&b, 2, result), 0);
        assert_int_equal(raft_core_state(b.core), RAFT_STATE_LEADER);
}

static void entries_below_our_snapshot_are_left_out(void **state) {
        RaftEntry entries[] = { command(2), command(2), command(2), command(2), command(3) };
        _cleanup_(done) Bench b;

        start_from_state(&b, "VVV", 2, 10);
        assert_int_equal(receive_append(&b, 2, 3, 7, 2, 7, entries, 5), 0);
        assert_true(has_said(&b, "append 11..12\n"));
        assert_int_equal(raft_core_last_index(b.core), 12);
        assert_int_equal(raft_core_entry(b.core, 12)->term, 3);

        /* Nothing is left: a heartbeat is. */
        assert_int_equal(durable(&b), 0);
        text_clear(&b.said);
        assert_int_equal(receive_append(&b, 2, 3, 2, 1, 7, entries, 3), 0);
        assert_said(&b, "send 2 append-result 3 rejected 0 last 10\n");
}

static void each_configuration_of_a_message_has_its_own_index(void **state) {
        _cleanup_conf_ Conf three = conf_of("VVVs"), four = conf_of("VVVV");
        RaftEntry entries[] = { command(2), change_entry(2, &three), command(2), change_entry(2, &four),
                                command(2) };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 2, 1, 1, 1, entries, 5), 0);
        assert_int_equal(raft_core_last_index(b.core), 6);
        assert_int_equal(raft_core_servers(b.core)->n, 4);
        text_clear(&b.said);

        assert_int_equal(receive_append(&b, 2, 2, 6, 2, 4, NULL, 0), 0);
        assert_int_equal(b.core->raft.configuration_committed_index, 3);
        assert_true(raft_core_change_pending(b.core));
        assert_int_equal(receive_append(&b, 2, 2, 6, 2, 6, NULL, 0), 0);
        assert_int_equal(b.core->raft.configuration_committed_index, 5);
        assert_false(raft_core_change_pending(b.core));
}

static void the_rest_of_a_message_that_is_rejected_is_left(void **state) {
        _cleanup_conf_ Conf four = conf_of("VVVs");
        RaftEntry entries[] = { command(2), change_entry(2, &four), command(2) };
        const char *said;
        unsigned n = 0;
        _cleanup_(done) Bench b;

        start(&b, "VVV", 2, 5);
        assert_int_equal(receive_append(&b, 2, 2, 50, 2, 0, entries, 3),
                         0); /* two steps: the second one begins with the configuration */
        for (said = b.said.chars; said && (said = strstr(said, "append-result")); said++)
                n++;
        assert_int_equal(n, 1);
}

static void the_first_of_two_configurations_in_the_log_is_remembered_when_it_is_applied(void **state) {
        _cleanup_conf_ Conf one = conf_of("VVV"), two = conf_of("VVVs"), three = conf_of("VVVV");
        RaftStateInfo info = state_of(2, 1, &one);
        RaftEntry entries[] = { command(1), change_entry(1, &two), command(1), change_entry(1, &three) };
        RaftEntry other[] = { command(2) };
        _cleanup_(done) Bench b;

        begin_with(&b, 1);
        START(&b, 0, .term = 1, .state = &info, .first_index = 3, .entries = entries, .n_entries = 4);
        assert_int_equal(receive_append(&b, 2, 2, 4, 1, 4, NULL, 0), 0);
        assert_int_equal(b.core->raft.configuration_committed_index, 4);

        /* A fall-back is to it. */
        assert_int_equal(receive_append(&b, 2, 2, 5, 1, 4, other, 1), 0);
        assert_int_equal(raft_core_servers(b.core)->items[3].role, RAFT_ROLE_STANDBY);
        assert_false(raft_core_change_pending(b.core));
}

static void a_second_snapshot_while_one_is_in_work_is_dropped(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 5);
        assert_int_equal(receive_snapshot(&b, 2, 2, 50, &conf), 0);
        assert_said(&b, "meta 2 0\ninstall 50\n");
        assert_true(raft_core_installing(b.core));
        assert_int_equal(receive_snapshot(&b, 2, 2, 60, &conf), 0);
        assert_said(&b, "");

        assert_int_equal(
                raft_core_checkpointed(b.core, b.now_ms, &(RaftStateInfo) { .index = 1, .term = 1 }, 0),
                -EAGAIN);

        /* A heartbeat may name a commit index that we do not hold yet. */
        assert_int_equal(receive_append(&b, 2, 2, 50, 2, 50, NULL, 0), 0);
        assert_int_equal(raft_core_applied_index(b.core), 1);
        text_clear(&b.said);
        assert_int_equal(raft_core_installed(b.core, b.now_ms), 0);
        assert_said(&b, "send 2 append-result 2 rejected 0 last 50\n");
        assert_int_equal(raft_core_applied_index(b.core), 50);
        assert_int_equal(raft_core_first_index(b.core), 51);
}

static void a_core_that_ends_during_an_install_gives_everything_back(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 5);
        assert_int_equal(receive_snapshot(&b, 2, 2, 50, &conf), 0);
}

static void a_received_state_that_is_older_than_ours_does_not_replace_it(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        RaftStateInfo info = state_of(5, 1, &conf);
        RaftEntry entries[] = { command(2), command(2), command(2) };
        _cleanup_(done) Bench b;

        /* Its log conflicts with what it has applied: it is a new one, behind the state. */
        begin_with(&b, 1);
        info.index = 60;
        info.term = 2;
        START(&b, 0, .term = 2, .state = &info, .first_index = 61);
        assert_int_equal(receive_snapshot(&b, 2, 3, 50, &conf), 0);
        assert_true(has_said(&b, "send 2 append-result 3")); /* not wanted at all */
        assert_false(raft_core_installing(b.core));
        assert_int_equal(receive_append(&b, 2, 3, 59, 2, 60, entries, 3), 0);
        assert_true(has_said(&b, "append 61..62\n"));
}

/* Applied entries stay applied, although the log begins again after an older snapshot. */
static void a_state_behind_what_is_applied_makes_nothing_be_applied_twice(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        RaftEntry entries[] = { command(3), command(3), command(3) };

        for (unsigned at_once = 0; at_once < 2; at_once++) {
                _cleanup_(done) Bench b;

                start(&b, "VVV", 1, 5);
                assert_int_equal(receive_append(&b, 2, 1, 5, 1, 5, NULL, 0), 0);
                assert_int_equal(raft_core_applied_index(b.core), 5);
                text_clear(&b.said);
                b.core->handled = 3;
                assert_int_equal(receive_append(&b, 2, 3, 5, 1, at_once ? 6 : 5, entries, 1), 0);
                assert_said(&b, at_once ? "meta 3 0\nappend 6..6\napply 6..6\n" : "meta 3 0\nappend 6..6\n");
                assert_int_equal(b.core->handled, at_once ? 6 : 5);
                assert_int_equal(raft_core_applied_index(b.core), at_once ? 6 : 5);
        }
}

static void entries_behind_a_configuration_are_applied_with_the_same_input(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVVs");
        RaftEntry entries[] = { change_entry(2, &conf), command(2), command(2) };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 2, 1, 1, 1, entries, 3), 0);
        assert_int_equal(durable(&b), 0);
        text_clear(&b.said);
        assert_int_equal(receive_append(&b, 2, 2, 4, 2, 4, NULL, 0), 0);
        assert_said(&b, "send 2 append-result 2 rejected 0 last 4\napply 2..2\napply 3..4\n");
}

static void unapplied_committed_entries_are_reported(void **state) {
        RaftEntry entry = command(4);
        _cleanup_(done) Bench b;

        start_from_state(&b, "VVV", 4, 20);
        b.later = true;
        (void) take_changed(&b);
        assert_int_equal(receive_append(&b, 2, 4, 20, 4, 20, &entry, 1), 0);
        assert_int_equal(take_changed(&b), RAFT_CHANGED_LEADER);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_append(&b, 2, 4, 21, 4, 21, NULL, 0), 0);
        assert_int_equal(take_changed(&b), RAFT_CHANGED_COMMIT);
        assert_int_equal(raft_core_applied_index(b.core), 20);
        assert_int_equal(raft_core_apply(b.core, b.now_ms), 0);
        assert_int_equal(take_changed(&b), 0);
        b.later = false;
        assert_int_equal(raft_core_apply(b.core, b.now_ms), 0);
        assert_int_equal(take_changed(&b), RAFT_CHANGED_COMMIT);
        assert_int_equal(raft_core_applied_index(b.core), 21);
}

/* -- Invalid messages -- */

static void messages_that_cannot_be_are_dropped(void **state) {
        RaftEntry bad_conf = { .term = 2, .type = RAFT_ENTRY_CHANGE, .data = "nonsense", .size = 8 };
        RaftEntry falling[] = { command(2), command(1) };
        RaftEntry future[] = { command(9) };
        static char bytes[RAFT_ENTRY_SIZE_MAX + 1];
        _cleanup_conf_ Conf other = conf_of("VVVV");
        RaftEntry none[] = { command(0) }, large[] = {
                { .term = 2, .type = RAFT_ENTRY_COMMAND, .data = bytes, .size = sizeof(bytes) }
        };
        const struct {
                uint64_t index, index_term, configuration_index;
        } snapshots[] = { { 0, 2, 1 }, { 9, 0, 1 }, { 9, 10, 1 }, { 9, 2, 0 }, { 9, 2, 10 } };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 2, 5);
        assert_int_equal(receive_append(&b, 2, 2, 0, 1, 0, NULL, 0), 0);
        assert_int_equal(receive_append(&b, 2, 2, 5, 0, 0, NULL, 0), 0);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, falling, 2), 0);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, future, 1), 0);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, &bad_conf, 1), 0);
        assert_int_equal(receive_append(&b, 1, 2, 5, 2, 0, NULL, 0), 0);
        assert_int_equal(receive_append(&b, 0, 2, 5, 2, 0, NULL, 0), 0);
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_VOTE, .term = 9, .vote = { .candidate = 3 });
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_SNAPSHOT, .term = 9, .snapshot = { 5, 2, 1, "x", 1 });
        assert_int_equal(receive_append(&b, 2, 2, 0, 0, 0, none, 1), 0);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, large, 1), 0);
        assert_int_equal(receive_append(&b, 2, 2, 5, 3, 0, NULL, 0),
                         0); /* the entry before is of a later term than the message */
        assert_int_equal(receive_append(&b, 2, 2, UINT64_MAX / 2 + 1, 2, 0, NULL, 0), 0);
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_VOTE, .vote = { .candidate = 2 }); /* of no term */
        for (size_t i = 0; i < ELEMENTS(snapshots); i++)
                RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_SNAPSHOT, .term = 9,
                        .snapshot = { snapshots[i].index, snapshots[i].index_term,
                                      snapshots[i].configuration_index, other.bytes, other.size });
        assert_said(&b, "");
        assert_int_equal(raft_core_term(b.core), 2);
}

static void messages_at_the_limits_are_taken(void **state) {
        static RaftEntry many[RAFT_MESSAGE_ENTRIES_MAX];
        static char large[RAFT_ENTRY_SIZE_MAX + 1];
        _cleanup_conf_ Conf conf = conf_of("VVVs");
        RaftEntry falling[] = { command(2), command(1) }, change[] = { command(1), change_entry(1, &conf) };
        Bench b;

        for (size_t i = 0; i < ELEMENTS(many); i++)
                many[i] = command(2);
        start(&b, "VVV", 2, 5);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, many, ELEMENTS(many)), 0);
        assert_int_equal(raft_core_last_index(b.core), 5 + ELEMENTS(many));
        done(&b);

        for (size_t more = 0; more < 2; more++) {
                RaftEntry entry = { .term = 2,
                                    .type = RAFT_ENTRY_COMMAND,
                                    .data = large,
                                    .size = RAFT_ENTRY_SIZE_MAX + more };

                start(&b, "VVV", 2, 5);
                assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, &entry, 1), 0);
                assert_int_equal(raft_core_last_index(b.core), 6 - more);
                text_clear(&b.said);
                assert_int_equal(receive_append(&b, 2, 2, UINT64_MAX / 2 + more, 2, 0, NULL, 0), 0);
                assert_int_equal(has_said(&b, "append-result"), !more);
                done(&b);
        }

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 2, 1, 1, 0, falling, 2), 0);
        assert_int_equal(raft_core_last_index(b.core), 1);
        assert_int_equal(receive_append(&b, 2, 1, 1, 1, 0, change, 2), 0);
        assert_int_equal(raft_core_last_index(b.core), 3);
        assert_int_equal(b.core->raft.configuration_uncommitted_index, 3);
        done(&b);

        begin_with(&b, 1);
        START(&b, 0, .first_index = 1);
        assert_int_equal(receive_snapshot(&b, 2, 2, 1, &conf), 0);
        assert_true(has_said(&b, "install 1\n"));
        done(&b);
}

static void another_leader_in_our_term_ends_the_core(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVV", 2, 5);
        lead(&b, 3);
        assert_int_equal(receive_append(&b, 2, raft_core_term(b.core), 5, 2, 0, NULL, 0), -ESHUTDOWN);
        assert_int_equal(raft_core_tick(b.core, b.now_ms), -ESHUTDOWN);
}

static void an_observed_leader_counts_in_its_term(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVV", 2, 5);
        assert_int_equal(receive_append(&b, 4, 2, 5, 2, 0, NULL, 0), 0);
        assert_int_equal(raft_core_leader(b.core), 4);

        /* A candidate that never wins: each vote keeps us a follower. */
        for (uint64_t term = 3; term < 6; term++) {
                b.now_ms = raft_core_timeout_ms(b.core) - 1;
                RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_VOTE, .term = term,
                        .vote = { .candidate = 2, .last_index = 5, .last_term = 2, .disrupt_leader = true });
                assert_int_equal(raft_core_term(b.core), term);
                assert_int_equal(raft_core_state(b.core), RAFT_STATE_FOLLOWER);
                assert_int_equal(raft_core_leader(b.core), 0);
        }

        assert_int_equal(receive_append(&b, 4, 2, 5, 2, 0, NULL, 0), 0); /* a late message of its old term */
        assert_int_equal(raft_core_leader(b.core), 0);
        assert_int_equal(receive_append(&b, 2, 5, 5, 2, 0, NULL, 0), 0);
        assert_int_equal(raft_core_leader(b.core), 2);
}

static void only_changes_are_notified(void **state) {
        RaftEntry entry = command(2);
        _cleanup_(done) Bench b;

        start(&b, "VVV", 2, 5);
        assert_true(take_changed(&b) & RAFT_CHANGED_CONFIGURATION);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, NULL, 0), 0);
        assert_int_equal(take_changed(&b), RAFT_CHANGED_LEADER);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, NULL, 0), 0);
        assert_int_equal(take_changed(&b), 0);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 5, NULL, 0), 0);
        assert_int_equal(take_changed(&b), RAFT_CHANGED_COMMIT);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 5, &entry, 1), 0);
        assert_int_equal(take_changed(&b), 0);
        assert_int_equal(receive_append(&b, 3, 3, 5, 2, 5, NULL, 0), 0);
        assert_int_equal(take_changed(&b),
                         RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER); /* the term, and its leader */
        assert_int_equal(durable(&b), 0);
        (void) take_changed(&b);
        tick_until_due(&b);
        assert_int_equal(take_changed(&b) & (RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER),
                         RAFT_CHANGED_STATE | RAFT_CHANGED_LEADER); /* a candidate */
}

static void what_apply_cannot_do_ends_the_core(void **state) {
        uint64_t index, term;
        _cleanup_(done) Bench b;

        start(&b, "V", 1, 1);
        b.apply_error = -EIO;
        assert_int_equal(durable(&b), -EIO);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), -EIO);
        assert_int_equal(raft_core_tick(b.core, b.now_ms), -EIO);
        assert_true(raft_core_timeout_ms(b.core) == UINT64_MAX); /* or its owner would tick it for ever */
}

/* -- The disk -- */

static void what_was_submitted_is_so_also_where_the_core_ends_right_behind_it(void **state) {
        uint64_t index = 0, term = 0;
        _cleanup_(done) Bench b;

        start(&b, "V", 4, 1);
        assert_int_equal(durable(&b), 0);
        b.slice = 1;
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0);
        assert_int_equal(durable(&b), 0);
        assert_true(raft_core_is_behind(b.core));
        text_clear(&b.said);

        b.apply_error = -ENOMEM; /* of an earlier entry */
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0);
        assert_int_equal(index, 6);
        assert_true(has_said(&b, "append 6..6\n"));
        assert_int_equal(raft_core_error(b.core), -ENOMEM);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), -ENOMEM);
}

static void a_core_that_has_ended_answers_each_input_alike_and_asks_for_nothing(void **state) {
        RaftEntry entry = command(4);
        uint64_t index, term;
        Error err = {};
        _cleanup_(done) Bench b;

        start(&b, "VVV", 4, 3);
        assert_int_equal(receive_append(&b, 2, 4, 3, 4, 0, &entry, 1), 0); /* its write is under way */
        b.apply_error = -EIO;
        assert_int_equal(receive_append(&b, 2, 4, 3, 4, 3, NULL, 0), -EIO);
        text_clear(&b.said);

        b.apply_error = 0;
        assert_int_equal(receive_append(&b, 2, 4, 3, 4, 4, &entry, 1), -EIO);
        RECEIVE(&b, 3, -EIO, .type = RAFT_MESSAGE_VOTE, .term = 9,
                .vote = { .candidate = 3, .last_index = 9, .last_term = 9 });
        assert_int_equal(raft_core_tick(b.core, b.now_ms + 100000), -EIO);
        assert_int_equal(raft_core_appended(b.core, b.now_ms, 1, 3), -EIO);
        assert_int_equal(durable(&b), -EIO);
        assert_int_equal(raft_core_apply(b.core, b.now_ms), -EIO);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), -EIO);
        assert_int_equal(
                raft_core_checkpointed(b.core, b.now_ms, &(RaftStateInfo) { .index = 1, .term = 1 }, 0),
                -EIO);
        assert_int_equal(raft_core_installed(b.core, b.now_ms), -EIO);
        START(&b, -EIO, .first_index = 1);
        assert_false(raft_core_is_behind(b.core));
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), -EIO);
        assert_int_equal(raft_core_change(b.core, b.now_ms,
                                          &(RaftChange) { .kind = RAFT_CHANGE_REMOVE, .id = 2 }, &index,
                                          &err),
                         -EIO);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 2), -EIO);
        assert_said(&b, "");
}

static void an_entry_of_a_term_that_cannot_be_written_is_neither_taken_nor_kept(void **state) {
        RaftEntry entry = command(5);
        Bench b;

        start(&b, "VVV", 4, 3);
        b.meta_error = -EIO;
        assert_int_equal(receive_append(&b, 2, 5, 3, 4, 3, &entry, 1), -EIO);
        assert_said(&b, "meta 5 0\n");
        done(&b); /* what it keeps is a leak, to the sanitizers */
}

static void a_replaced_write_is_not_reported(void **state) {
        RaftEntry first[] = { command(2), command(2), command(2) }, second[] = { command(3) };
        uint64_t old_generation;
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 2, 1, 1, 1, first, 3), 0);
        assert_said(&b, "meta 2 0\nappend 2..4\n");
        old_generation = b.generation;
        assert_int_equal(receive_append(&b, 3, 3, 2, 2, 1, second, 1), 0);
        assert_true(has_said(&b, "append 3..3\n"));

        /* Only what still stands of the first write counts. */
        assert_int_equal(raft_core_appended(b.core, b.now_ms, old_generation, 4), 0);
        assert_int_equal(raft_core_stored_index(b.core), 2);
        assert_said(&b, "send 3 append-result 3 rejected 0 last 2\n");
        assert_int_equal(durable(&b), 0);
        assert_int_equal(raft_core_stored_index(b.core), 3);
}

/* To the very index: of what was replaced, and of what is reported. */
static void what_is_stored_ends_before_what_was_replaced(void **state) {
        RaftEntry first[] = { command(2), command(2), command(2) }, second[] = { command(3) };
        uint64_t old_generation;
        Bench b;

        begin_with(&b, 1);
        START(&b, 0, .first_index = 1);
        assert_int_equal(raft_core_appended(b.core, b.now_ms, 99, 5), 0);
        assert_int_equal(raft_core_stored_index(b.core), 0);
        done(&b);

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 2, 1, 1, 1, first, 3), 0);
        old_generation = b.generation;
        assert_int_equal(receive_append(&b, 3, 3, 3, 2, 1, second, 1), 0);
        assert_true(has_said(&b, "append 4..4\n"));
        assert_int_equal(raft_core_last_index(b.core), 4);
        assert_int_equal(raft_core_entry(b.core, 4)->term, 3);
        assert_int_equal(raft_core_appended(b.core, b.now_ms, old_generation, 4), 0);
        assert_int_equal(raft_core_stored_index(b.core), 3);
        assert_int_equal(raft_core_appended(b.core, b.now_ms, old_generation, 4), 0); /* again */
        assert_int_equal(raft_core_stored_index(b.core), 3);
        done(&b);

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 2, 1, 1, 1, first, 3), 0);
        assert_int_equal(raft_core_appended(b.core, b.now_ms, b.generation, 3), 0);
        assert_int_equal(raft_core_stored_index(b.core), 3);
        done(&b);
}

static void what_is_received_is_kept_as_it_came_or_not_at_all(void **state) {
        bool failed = true;

        for (unsigned n = 1; failed; n++) {
                RaftEntry entries[] = {
                        command(2),
                        { .term = 2, .type = RAFT_ENTRY_COMMAND, .data = "another", .size = 7 },
                        command(2)
                };
                _cleanup_(done) Bench b;
                int r;

                assert_true(n < 20);
                start(&b, "VVV", 2, 1);
                heap_left = UINT_MAX; /* the engine's own is not the matter here */
                raft_heap_set(&heap);
                alloc_fail_at(n);
                r = receive_append(&b, 2, 2, 1, 1, 1, entries, 3);
                failed = alloc_has_failed();
                alloc_fail_at(0);
                raft_heap_set_default();
                heap_left = 0;
                assert_true(r == 0 || (failed && r == -ENOMEM));
                assert_int_equal(raft_core_error(b.core), r);
                if (r == 0 && raft_core_last_index(b.core) == 1)
                        assert_true(failed && !has_said(&b, "append 2")); /* dropped whole */
                else if (r == 0) {
                        assert_int_equal(raft_core_last_index(b.core), 4);
                        assert_int_equal(b.written, 4);
                        assert_int_equal(raft_core_entry(b.core, 2)->size, 2);
                        assert_memory_equal(raft_core_entry(b.core, 2)->data, "do", 2);
                        assert_int_equal(raft_core_entry(b.core, 3)->size, 7);
                        assert_memory_equal(raft_core_entry(b.core, 3)->data, "another", 7);
                }
        }
}

static void a_write_that_a_state_has_replaced_is_not_reported(void **state) {
        RaftEntry entries[] = { command(1), command(1), command(1), command(1), command(1) };
        _cleanup_conf_ Conf conf = conf_of("VVV");
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 1, 1, 1, 1, entries, ELEMENTS(entries)), 0);
        assert_int_equal(b.written, 6);
        text_clear(&b.said);
        assert_int_equal(receive_snapshot(&b, 3, 2, 4, &conf), 0);
        assert_true(has_said(&b, "install 4\n"));
        assert_int_equal(raft_core_installed(b.core, b.now_ms), 0);
        assert_int_equal(raft_core_last_index(b.core), 4);
        assert_int_equal(durable(&b), 0); /* what was under way when it came */
        assert_int_equal(raft_core_stored_index(b.core), 4);
}

static void a_report_covers_the_writes_before_it(void **state) {
        RaftEntry entries[] = { command(2), command(2), command(2) };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        for (unsigned i = 0; i < 3; i++)
                assert_int_equal(receive_append(&b, 2, 2, 1 + i, i == 0 ? 1 : 2, 1, &entries[i], 1), 0);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(raft_core_stored_index(b.core), 4);
}

static void a_checkpoint_counts_when_it_is_durable_in_the_log_and_knows_the_configuration(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV"), next = conf_of("VVVs");
        RaftStateInfo info = state_of(4, 2, &conf);
        RaftEntry entries[] = { command(2), command(2), command(2), change_entry(2, &next), command(2) };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 2, 1, 1, 4, entries, 3), 0);
        assert_int_equal(raft_core_applied_index(b.core), 4);
        assert_int_equal(raft_core_checkpointed(b.core, b.now_ms, &info, 1), -EAGAIN);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_append(&b, 2, 2, 4, 2, 6, entries + 3, 2), 0);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(raft_core_checkpointed(b.core, b.now_ms, &info, 1), -ESTALE);

        info.index = 6;
        info.configuration_index = 5;
        info.configuration = next.bytes;
        info.configuration_size = next.size;
        assert_int_equal(raft_core_checkpointed(b.core, b.now_ms, &info, 1), 0);
        assert_int_equal(raft_core_first_index(b.core), 6);
        assert_int_equal(raft_core_last_index(b.core), 6);
        assert_int_equal(b.core->raft.trail.snapshot.index, 6);
        assert_int_equal(b.core->raft.trail.snapshot.term, 2);
        text_clear(&b.said);
        assert_int_equal(raft_core_checkpointed(b.core, b.now_ms, &info, 0), 0); /* again: nothing to do */
        assert_int_equal(raft_core_first_index(b.core), 6);
        assert_said(&b, "");

        info.index = 7;
        info.configuration = "nonsense";
        info.configuration_size = 8;
        assert_int_equal(receive_append(&b, 2, 2, 6, 2, 7, entries, 1), 0);
        assert_int_equal(durable(&b), 0);
        assert_true(raft_core_checkpointed(b.core, b.now_ms, &info, 1) < 0);
        assert_int_equal(raft_core_first_index(b.core), 6);
}

static void a_follower_behind_the_log_gets_a_snapshot(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        RaftStateInfo info = state_of(20, 2, &conf);
        _cleanup_(done) Bench b;

        start(&b, "VVV", 2, 20);
        lead(&b, 2);
        assert_int_equal(raft_core_checkpointed(b.core, b.now_ms, &info, 2), 0);
        text_clear(&b.said);
        RECEIVE(&b, 3, 0, .type = RAFT_MESSAGE_APPEND_RESULT, .term = raft_core_term(b.core),
                .append_result = { .rejected = 20, .last_index = 3 });
        assert_said(&b, "snapshot 3 at 20\n");
}

/* -- Membership -- */

static int change(Bench *b, RaftChangeKind kind, uint64_t id, const char *address, bool force) {
        RaftChange c = { .kind = kind, .id = id, .address = address, .force = force };
        Error err = {};
        uint64_t index;
        int r;

        r = raft_core_change(b->core, b->now_ms, &c, &index, &err);
        assert_true(r == 0 || err.message[0]);
        return r;
}

static void invalid_configuration_changes_are_rejected_with_a_message(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 2, 5);
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 9, "z:1", false), -EREMOTE);
        lead(&b, 3);
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 0, "z:1", false), -EINVAL);
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 9, NULL, false), -EINVAL);
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 9, "", false), -EINVAL);
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 2, "z:1", false), -EEXIST);
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 9, "b:1", false), -EEXIST);
        assert_int_equal(change(&b, RAFT_CHANGE_MOVE, 2, "c:1", false), -EEXIST);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 9, NULL, false), -ENOENT);
        assert_int_equal(change(&b, (RaftChangeKind) 99, 2, NULL, false), -EINVAL);
        assert_int_equal(change(&b, RAFT_CHANGE_PROMOTE, 2, NULL, false), -EINVAL);
        assert_int_equal(change(&b, RAFT_CHANGE_PROMOTE, 4, NULL, false), -EAGAIN);
        assert_int_equal(change(&b, RAFT_CHANGE_DEMOTE, 4, NULL, false), -EINVAL);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 1, NULL, true), -EPERM);  /* ourselves */
        assert_int_equal(change(&b, RAFT_CHANGE_DEMOTE, 2, NULL, false), -EPERM); /* below three */
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 9, "z:1", false), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 10, "y:1", false), -EBUSY);
        assert_int_equal(raft_core_servers(b.core)->n, 5);
}

static void a_rejected_address_is_reported_with_its_reason(void **state) {
        char too_long[RAFT_ADDRESS_MAX + 2] = "";
        const struct {
                RaftChange change;
                const char *message;
        } rows[] = {
                { { .kind = RAFT_CHANGE_ADD, .id = 9, .address = "" }, "server 9 needs an address" },
                { { .kind = RAFT_CHANGE_ADD, .id = 9, .address = too_long }, "server 9 needs an address" },
                { { .kind = RAFT_CHANGE_ADD, .id = 9, .address = "a:1" }, "address a:1 belongs to server 1" },
                { { .kind = RAFT_CHANGE_MOVE, .id = 2, .address = "d:1" },
                  "address d:1 belongs to server 4" },
        };
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        memset(too_long, 'x', sizeof(too_long) - 1);
        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                Error err = {};
                uint64_t index;

                assert_true(raft_core_change(b.core, b.now_ms, &rows[i].change, &index, &err) < 0);
                assert_string_equal(err.message, rows[i].message);
        }
        assert_int_equal(change(&b, RAFT_CHANGE_MOVE, 2, "b:1", false), 0); /* its own */
}

static void a_change_without_memory_changes_nothing(void **state) {
        static const RaftChange changes[] = {
                { .kind = RAFT_CHANGE_ADD, .id = 9, .address = "z:1" },
                { .kind = RAFT_CHANGE_MOVE, .id = 3, .address = "c:9" },
                { .kind = RAFT_CHANGE_REMOVE, .id = 4 },
        };

        for (size_t i = 0; i < ELEMENTS(changes); i++)
                for (unsigned n = 1, failed = 1; failed; n++) {
                        Error err = {};
                        uint64_t index;
                        _cleanup_(done) Bench b;
                        int r;

                        start(&b, "VVVs", 2, 5);
                        lead(&b, 3);
                        alloc_fail_at(n);
                        r = raft_core_change(b.core, b.now_ms, &changes[i], &index, &err);
                        failed = alloc_has_failed();
                        alloc_fail_at(0);
                        assert_int_equal(r, failed ? -ENOMEM : 0);
                        assert_true(failed || raft_core_change_pending(b.core));
                        if (failed && raft_core_error(b.core) == 0) { /* the core has not ended by it */
                                assert_false(raft_core_change_pending(b.core));
                                assert_int_equal(raft_core_servers(b.core)->n, 4);
                                assert_string_equal(raft_core_servers(b.core)->items[2].address, "c:1");
                                assert_int_equal(
                                        raft_core_change(b.core, b.now_ms, &changes[i], &index, &err), 0);
                        }
                }
}

/* Of those without a vote it is seen how they follow. */
static void only_standbys_are_watched_and_only_by_a_leader(void **state) {
        _cleanup_conf_ Conf conf = conf_of("sV");
        RaftEntry entry = change_entry(1, &conf);
        Bench b;

        start(&b, "VVs", 2, 5);
        lead(&b, 3);
        for (size_t i = 0; i < b.core->n_peers; i++)
                assert_int_equal(b.core->peers[i].close_since_ms, b.core->peers[i].id == 3 ? b.now_ms : 0);
        assert_int_equal(b.core->n_peers, 2);
        assert_int_equal(receive_append(&b, 2, raft_core_term(b.core) + 1, 0, 0, 0, NULL, 0), 0);
        assert_int_equal(b.core->n_peers, 0);
        done(&b);

        begin_with(&b, 2); /* the standby comes first */
        START(&b, 0, .term = 1, .first_index = 1, .entries = &entry, .n_entries = 1);
        assert_int_equal(durable(&b), 0);
        assert_true(raft_core_leads(b.core));
        assert_int_equal(receive_result(&b, 1, raft_core_last_index(b.core)), 0);
        assert_int_equal(b.core->n_peers, 1);
        assert_int_equal(b.core->peers[0].close_since_ms, b.now_ms);
        assert_int_equal(b.core->peers[0].id, 1);
        done(&b);
}

static void votes_and_their_results_say_all_that_the_engine_says(void **state) {
        RaftMessage m;
        Bench b;

        start(&b, "VVV", 2, 5);
        tick_until_due(&b);
        assert_int_equal(b.sent.type, RAFT_MESSAGE_VOTE);
        assert_int_equal(b.sent.term, 3);
        assert_int_equal(b.sent.vote.candidate, 1);
        assert_int_equal(b.sent.vote.last_index, 5);
        assert_int_equal(b.sent.vote.last_term, 2);
        assert_false(b.sent.vote.disrupt_leader);
        assert_true(b.sent.vote.pre_vote);
        done(&b);

        for (unsigned pre = 0; pre < 2; pre++) {
                start(&b, "VVV", 2, 5);
                m = (RaftMessage) {
                        .type = RAFT_MESSAGE_VOTE,
                        .term = 3,
                        .vote = { .candidate = 3, .last_index = 5, .last_term = 2, .pre_vote = pre }
                };
                assert_int_equal(receive(&b, 3, m), 0);
                assert_int_equal(b.sent.type, RAFT_MESSAGE_VOTE_RESULT);
                assert_int_equal(b.sent.term, 3);
                assert_true(b.sent.vote_result.granted);
                assert_int_equal(b.sent.vote_result.pre_vote, pre);
                assert_int_equal(b.sent.vote_result.features, 1);
                assert_int_equal(b.sent.vote_result.capacity, 0);
                assert_int_equal(b.core->raft.voted_for, pre ? 0 : 3);
                m.vote.last_index = 4;
                m.term = 4;
                assert_int_equal(receive(&b, 3, m), 0);
                assert_false(b.sent.vote_result.granted);
                done(&b);
        }

        start(&b, "VVV", 2, 5);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 5, NULL, 0), 0);
        m = (RaftMessage) { .type = RAFT_MESSAGE_TIMEOUT_NOW,
                            .term = 2,
                            .timeout_now = { .last_index = 5, .last_term = 2 } };
        assert_int_equal(receive(&b, 2, m), 0);
        assert_int_equal(b.sent.type, RAFT_MESSAGE_VOTE);
        assert_int_equal(b.sent.term, 3);
        assert_true(b.sent.vote.disrupt_leader);
        assert_false(b.sent.vote.pre_vote);
        done(&b);

        start(&b, "VVV", 2, 5);
        lead(&b, 3);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 2), 0);
        assert_int_equal(b.sent.type, RAFT_MESSAGE_TIMEOUT_NOW);
        assert_int_equal(b.sent.term, 3);
        assert_int_equal(b.sent.timeout_now.last_index, 6);
        assert_int_equal(b.sent.timeout_now.last_term, 3);
        done(&b);
}

/* Its second part begins with the configuration. */
static void the_rest_is_left_also_where_the_first_entry_is_rejected(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVVs");
        RaftEntry entries[] = { command(3), change_entry(3, &conf) };
        _cleanup_(done) Bench b;

        begin_with(&b, 1);
        START(&b, 0, .first_index = 1);
        assert_int_equal(receive_append(&b, 2, 3, 1, 2, 0, entries, 2), 0);
        assert_said(&b, "meta 3 0\nsend 2 append-result 3 rejected 1 last 0\n");
}

static void a_leader_begins_with_an_entry_without_data(void **state) {
        uint64_t index, term, bytes;
        _cleanup_(done) Bench b;

        start(&b, "V", 4, 1);
        assert_int_equal(durable(&b), 0);
        bytes = raft_core_entries_bytes(b.core);
        assert_int_equal(raft_core_entry(b.core, 2)->type, RAFT_ENTRY_BARRIER);
        assert_int_equal(raft_core_entry(b.core, 2)->term, 5);
        assert_int_equal(raft_core_entry(b.core, 2)->size, 0);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "xyz", 3, &index, &term), 0);
        assert_int_equal(index, 3);
        assert_int_equal(term, 5);
        assert_int_equal(raft_core_entry(b.core, 3)->size, 3);
        assert_true(raft_core_entries_bytes(b.core) > bytes);
}

/* 4 follows closely for long enough. */
static void catch_up(Bench *b) {
        for (unsigned i = 0; i < 30; i++) {
                b->now_ms += 100;
                assert_int_equal(raft_core_tick(b->core, b->now_ms), 0);
                for (uint64_t from = 2; from <= 4; from++)
                        assert_int_equal(receive_result(b, from, raft_core_last_index(b->core)), 0);
        }
        assert_true(raft_core_caught_up(b->core, b->now_ms, 4));
        text_clear(&b->said);
}

static void a_standby_that_is_far_behind_or_silent_has_not_caught_up(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        catch_up(&b);
        for (unsigned i = 0; i < 15; i++) {
                b.now_ms += 100;
                assert_int_equal(raft_core_tick(b.core, b.now_ms), 0);
                for (uint64_t from = 2; from <= 3; from++)
                        assert_int_equal(receive_result(&b, from, raft_core_last_index(b.core)), 0);
        }
        assert_false(raft_core_caught_up(b.core, b.now_ms, 4));
}

static void tick_with(Bench *b, uint64_t ms, uint64_t last_of_4) {
        b->now_ms += ms;
        assert_int_equal(raft_core_tick(b->core, b->now_ms), 0);
        for (uint64_t from = 2; from <= 3; from++)
                assert_int_equal(receive_result(b, from, raft_core_last_index(b->core)), 0);
        if (last_of_4 > 0)
                assert_int_equal(receive_result(b, 4, last_of_4), 0);
}

static void a_standby_has_caught_up_within_100_entries_and_may_be_silent_for_a_second(void **state) {
        uint64_t last;
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 2, 150);
        lead(&b, 3);
        last = raft_core_last_index(b.core);
        for (unsigned i = 0; i < 30; i++)
                tick_with(&b, 100, last - 101);
        assert_false(raft_core_caught_up(b.core, b.now_ms, 4));
        for (unsigned i = 0; i < 30; i++)
                tick_with(&b, 100, last - 100);
        assert_true(raft_core_caught_up(b.core, b.now_ms, 4));
        for (unsigned i = 0; i < 10; i++)
                tick_with(&b, 100, 0);
        assert_true(raft_core_caught_up(b.core, b.now_ms, 4));
        tick_with(&b, 1, 0);
        assert_false(raft_core_caught_up(b.core, b.now_ms, 4));
}

/* A former voter that asks for votes is not one that follows. */
static void a_candidate_does_not_catch_up(void **state) {
        Error err = {};
        uint64_t index;
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 4, 1);
        lead(&b, 3);
        assert_int_equal(receive_result(&b, 4, raft_core_last_index(b.core)), 0);
        for (unsigned i = 0; i < 100; i++) {
                b.now_ms += 100;
                for (uint64_t from = 2; from <= 3; from++)
                        assert_int_equal(receive_result(&b, from, raft_core_last_index(b.core)), 0);
                RECEIVE(&b, 4, 0, .type = RAFT_MESSAGE_VOTE, .term = raft_core_term(b.core),
                        .vote = { .candidate = 4, .last_index = 1, .last_term = 1, .pre_vote = true });
                assert_int_equal(raft_core_tick(b.core, b.now_ms), 0);
        }
        assert_int_equal(raft_core_state(b.core), RAFT_STATE_LEADER);
        assert_int_equal(raft_core_change(b.core, b.now_ms,
                                          &(RaftChange) { .kind = RAFT_CHANGE_PROMOTE, .id = 4 }, &index,
                                          &err),
                         -EAGAIN);
}

static void a_promotion_is_on_our_disk_only_after_the_promoted_server_has_it(void **state) {
        uint64_t index, term, last;
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        catch_up(&b);
        last = raft_core_last_index(b.core);
        assert_int_equal(change(&b, RAFT_CHANGE_PROMOTE, 4, NULL, false), 0);
        assert_false(has_said(&b, "append 7"));
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), 0);
        assert_false(has_said(&b, "\nappend "));
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 2), -EBUSY);

        assert_int_equal(receive_result(&b, 2, last + 1), 0);
        assert_false(has_said(&b, "append 7..8\n"));
        assert_int_equal(receive_result(&b, 4, last + 1), 0);
        assert_true(has_said(&b, "append 7..8\n"));
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_result(&b, 2, last + 2), 0);
        assert_int_equal(receive_result(&b, 3, last + 2), 0);
        assert_int_equal(raft_core_applied_index(b.core), last + 2);
        assert_false(raft_core_change_pending(b.core));

        /* It is over. */
        text_clear(&b.said);
        assert_int_equal(receive_result(&b, 4, last + 2), 0);
        assert_false(has_said(&b, "append"));
        assert_int_equal(raft_core_stored_index(b.core), last + 2);
}

static void nothing_is_changed_before_an_entry_of_the_leaders_own_term_is_committed(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVV", 2, 5);
        elect(&b);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_result(&b, 2, 6), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_MOVE, 3, "c:9", false), -EBUSY);
        assert_int_equal(receive_result(&b, 3, 6), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_MOVE, 3, "c:9", false), 0);
}

static void a_promotion_reaches_others_only_after_the_promoted_server_has_it(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        catch_up(&b);
        text_clear(&b.said);
        assert_int_equal(change(&b, RAFT_CHANGE_PROMOTE, 4, NULL, false), 0);
        assert_said(&b,
                    "send 2 append 3 behind 6 0\nsend 3 append 3 behind 6 0\nsend 4 append 3 behind 6 1\n");
        b.now_ms += 150;
        assert_int_equal(raft_core_tick(b.core, b.now_ms), 0);
        assert_false(has_said(&b, "send 2 append 3 behind 6 1\n"));

        assert_int_equal(receive_result(&b, 4, 7), 0);
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_APPEND_RESULT, .term = raft_core_term(b.core),
                .append_result = { .rejected = 7, .last_index = 6 });
        assert_true(has_said(&b, "send 2 append 3 behind 6 1\n"));
}

static void leadership_lost_during_a_promotion_means_to_start_again(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        catch_up(&b);
        assert_int_equal(change(&b, RAFT_CHANGE_PROMOTE, 4, NULL, false), 0);
        text_clear(&b.said);
        assert_int_equal(receive_append(&b, 2, raft_core_term(b.core) + 1, 0, 0, 0, NULL, 0), -ERESTART);
        assert_said(&b, "meta 4 0\n");
        assert_int_equal(raft_core_tick(b.core, b.now_ms), -ERESTART);
}

static void a_promoted_server_that_stays_silent_ends_its_promotion(void **state) {
        uint64_t begun_ms;
        int r = 0;
        Bench b;

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        catch_up(&b);
        begun_ms = b.now_ms;
        assert_int_equal(change(&b, RAFT_CHANGE_PROMOTE, 4, NULL, false), 0);
        for (unsigned i = 0; i < 25 && r == 0; i++) {
                b.now_ms += 100;
                r = raft_core_tick(b.core, b.now_ms);
                for (uint64_t from = 2; from <= 3 && r == 0; from++)
                        r = receive_result(&b, from, 6);
        }
        assert_int_equal(r, -ERESTART);
        assert_int_equal(b.now_ms - begun_ms, 2100); /* not at 2000 */
        done(&b);

        /* Its owner gets the exact time. */
        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        catch_up(&b);
        begun_ms = b.now_ms;
        assert_int_equal(change(&b, RAFT_CHANGE_PROMOTE, 4, NULL, false), 0);
        r = 0;
        for (unsigned i = 0; i < 100 && r == 0; i++) {
                uint64_t due_ms = raft_core_timeout_ms(b.core);

                assert_true(due_ms > b.now_ms && due_ms <= begun_ms + 2001);
                b.now_ms = due_ms;
                r = raft_core_tick(b.core, b.now_ms);
                for (uint64_t from = 2; from <= 3 && r == 0; from++)
                        r = receive_result(&b, from, 6);
        }
        assert_int_equal(r, -ERESTART);
        assert_int_equal(b.now_ms - begun_ms, 2001);
        done(&b);
}

static void a_demotion_leaves_only_when_it_is_on_our_disk(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVV", 2, 5);
        elect(&b);
        assert_int_equal(durable(&b), 0);
        for (uint64_t from = 2; from <= 4; from++)
                assert_int_equal(receive_result(&b, from, 6), 0);
        text_clear(&b.said);

        assert_int_equal(change(&b, RAFT_CHANGE_DEMOTE, 4, NULL, false), 0);
        assert_said(&b, "append 7..7\nsend 2 append 3 behind 6 0\nsend 3 append 3 behind 6 0\nsend 4 append "
                        "3 behind 6 0\n");
        b.now_ms += 150;
        assert_int_equal(raft_core_tick(b.core, b.now_ms), 0);
        assert_false(has_said(&b, "behind 6 1"));
        assert_int_equal(durable(&b), 0);

        /* The followers miss it, and get it. */
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_APPEND_RESULT, .term = raft_core_term(b.core),
                .append_result = { .rejected = 7, .last_index = 6 });
        assert_true(has_said(&b, "send 2 append 3 behind 6 1\n"));
}

static void no_voter_leaves_while_too_few_have_the_configuration(void **state) {
        Bench b;

        start(&b, "VVVVV", 2, 5);
        elect(&b);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_result(&b, 2, 6), 0);
        assert_int_equal(receive_result(&b, 5, 6), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 5, NULL, false), -EAGAIN);
        assert_int_equal(receive_result(&b, 3, 6), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 5, NULL, false), 0);
        assert_int_equal(raft_core_servers(b.core)->n, 4);
        done(&b);

        /* Two of the three that remain, the leader among them, are enough. */
        start(&b, "VVVV", 2, 5);
        elect(&b);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_result(&b, 2, 6), 0);
        assert_int_equal(receive_result(&b, 4, 6), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 4, NULL, false), 0);
        assert_int_equal(raft_core_servers(b.core)->n, 3);
        done(&b);
}

static void an_address_has_255_bytes_and_a_configuration_64_servers_at_most(void **state) {
        char address[RAFT_ADDRESS_MAX + 2];
        _cleanup_(done) Bench b;

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        memset(address, 'x', sizeof(address));
        address[RAFT_ADDRESS_MAX + 1] = 0;
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 5, address, false), -EINVAL);
        address[RAFT_ADDRESS_MAX] = 0;
        for (uint64_t id = 5; id <= RAFT_SERVERS_MAX; id++) {
                assert_int_equal(change(&b, RAFT_CHANGE_ADD, id, address, false), 0);
                assert_int_equal(durable(&b), 0);
                for (uint64_t from = 2; from <= 3; from++)
                        assert_int_equal(receive_result(&b, from, raft_core_last_index(b.core)), 0);
                assert_false(raft_core_change_pending(b.core));
                snprintf(address, sizeof(address), "s%" PRIu64 ":1", id);
        }
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, RAFT_SERVERS_MAX + 1, "t:1", false), -ENOSPC);
}

static void below_three_voters_a_removal_needs_force_and_during_a_transfer_nothing_changes(void **state) {
        Bench b;

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 2, NULL, false), -EPERM);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 2, NULL, true), 0);
        assert_int_equal(raft_core_servers(b.core)->n, 3);
        assert_int_equal(raft_core_servers(b.core)->items[1].id, 3);
        done(&b);

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 3), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_ADD, 9, "z:1", false), -EREMOTE);
        done(&b);
}

/* Of a voter; the others need not wait for our disk. */
static void a_removal_leaves_only_when_it_is_on_our_disk(void **state) {
        RaftMessage rejected = { .type = RAFT_MESSAGE_APPEND_RESULT,
                                 .append_result = { .rejected = 7, .last_index = 6 } };
        Bench b;

        start(&b, "VVVV", 2, 5);
        elect(&b);
        assert_int_equal(durable(&b), 0);
        for (uint64_t from = 2; from <= 4; from++)
                assert_int_equal(receive_result(&b, from, 6), 0);
        text_clear(&b.said);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 4, NULL, false), 0);
        assert_false(has_said(&b, "behind 6 1"));
        assert_int_equal(durable(&b), 0);
        rejected.term = raft_core_term(b.core);
        assert_int_equal(receive(&b, 2, rejected), 0);
        assert_true(has_said(&b, "send 2 append 3 behind 6 1\n"));
        done(&b);

        start(&b, "VVVV", 2, 5);
        elect(&b);
        assert_int_equal(durable(&b), 0);
        for (uint64_t from = 2; from <= 4; from++)
                assert_int_equal(receive_result(&b, from, 6), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 4, NULL, false), 0);
        assert_int_equal(receive(&b, 2, rejected), 0); /* it asks for it before */
        assert_false(has_said(&b, "behind 6 1"));
        done(&b);

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 4, NULL, false), 0);
        assert_true(has_said(&b, "send 2 append 3 behind 6 1\n"));
        done(&b);

        start(&b, "VVVs", 2, 5);
        lead(&b, 3);
        assert_int_equal(change(&b, RAFT_CHANGE_MOVE, 3, "c:9", false), 0);
        assert_true(has_said(&b, "send 2 append 3 behind 6 1\n"));
        assert_string_equal(raft_core_servers(b.core)->items[2].address, "c:9");
        done(&b);
}

static void a_server_that_has_followed_for_two_seconds_has_caught_up(void **state) {
        uint64_t match;
        Bench b;

        start(&b, "VVVs", 2, 5);
        assert_int_equal(raft_core_match_index(b.core, 2, &match), -EREMOTE);
        assert_false(raft_core_caught_up(b.core, b.now_ms, 4)); /* no contact yet */
        lead(&b, 3);
        assert_int_equal(raft_core_match_index(b.core, 2, &match), 0);
        assert_int_equal(match, 6);
        assert_int_equal(raft_core_match_index(b.core, 9, &match), -ENOENT);
        assert_int_equal(receive_result(&b, 4, raft_core_last_index(b.core)), 0);
        assert_false(raft_core_caught_up(b.core, b.now_ms + 1999, 4));
        assert_true(raft_core_caught_up(b.core, b.now_ms + 2000, 4));
        assert_false(raft_core_caught_up(b.core, b.now_ms + 2000, 9));
        done(&b);

        /* Also from the first millisecond on. */
        start(&b, "Vs", 1, 1);
        b.now_ms = 1;
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_result(&b, 2, raft_core_last_index(b.core)), 0);
        assert_false(raft_core_caught_up(b.core, 2000, 2));
        assert_true(raft_core_caught_up(b.core, 2001, 2));
        done(&b);
}

static void a_server_knows_its_role_and_that_a_configuration_is_not_committed(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVs");
        const RaftServerRole roles[] = { RAFT_ROLE_VOTER, RAFT_ROLE_VOTER, RAFT_ROLE_STANDBY,
                                         RAFT_ROLE_NONE };

        for (size_t i = 0; i < ELEMENTS(roles); i++) {
                RaftEntry entry = change_entry(2, &conf);
                _cleanup_(done) Bench b;

                begin_with(&b, i + 1);
                START(&b, 0, .term = 2, .first_index = 1);
                assert_int_equal(raft_core_role(b.core), RAFT_ROLE_NONE);
                assert_false(raft_core_change_pending(b.core));
                assert_int_equal(receive_append(&b, i == 1 ? 1 : 2, 2, 0, 0, 0, &entry, 1), 0);
                assert_int_equal(raft_core_role(b.core), roles[i]);
                assert_true(raft_core_change_pending(b.core));
        }
}

static void leadership_is_transferred_and_submissions_wait_elsewhere(void **state) {
        uint64_t index, term;
        Bench b;

        start(&b, "VVVs", 2, 5);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 2), -EREMOTE);
        lead(&b, 3);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 4), -EINVAL);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 9), -EINVAL);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 3), 0);
        assert_true(has_said(&b, "send 3 timeout-now"));
        assert_int_equal(raft_transferee(&b.core->raft), 3);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 2), -EBUSY);
        assert_int_equal(raft_core_submit(b.core, b.now_ms, "x", 1, &index, &term), -EREMOTE);
        done(&b);

        start(&b, "V", 2, 5);
        assert_int_equal(raft_core_transfer(b.core, b.now_ms, 0), -ENOENT);
        assert_int_equal(raft_core_tick(b.core, b.now_ms), 0); /* it goes on */
        assert_int_equal(raft_core_error(b.core), 0);
        done(&b);
}

/* -- An engine without memory, and without its entries -- */

static int commit_the_configuration(Bench *b, const Conf *conf) {
        return receive_append(b, 2, 2, 1, 1, 1, NULL, 0);
}

static int take_a_snapshot(Bench *b, const Conf *conf) {
        return receive_snapshot(b, 2, 2, 50, conf);
}

static int count_a_checkpoint(Bench *b, const Conf *conf) {
        RaftStateInfo info = state_of(1, 1, conf);

        return raft_core_checkpointed(b->core, b->now_ms, &info, 0);
}

static void an_engine_without_memory_ends_the_core(void **state) {
        static const struct {
                int (*act)(Bench *b, const Conf *conf);
                unsigned n; /* of its allocations fail in turn: those in which we read the configuration */
        } acts[] = { { commit_the_configuration, UINT_MAX },
                     { take_a_snapshot, 1 },
                     { count_a_checkpoint, UINT_MAX } };
        _cleanup_conf_ Conf conf = conf_of("VVV");

        for (size_t i = 0; i < ELEMENTS(acts); i++)
                for (unsigned n = 0, failed = 1; failed && n < acts[i].n; n++) {
                        _cleanup_(done) Bench b;
                        int r;

                        assert_true(n < 50);
                        start(&b, "VVV", 2, 1);
                        heap_left = n;
                        heap_failed = false;
                        raft_heap_set(&heap);
                        r = acts[i].act(&b, &conf);
                        raft_heap_set_default();
                        heap_left = 0;
                        failed = heap_failed;
                        if (r != (failed ? -ENOMEM : 0) || raft_core_error(b.core) != r)
                                fail_msg("act %zu, allocation %u: %d", i, n, r);
                }
}

/* Nothing of this can be with a sound engine; going on would write a log that lies, or apply what is not
 * there. */
static void a_log_that_is_not_the_engine_s_ends_the_core(void **state) {
        RaftEntry entry = command(2), other = command(3);
        Bench b;

        start(&b, "VVV", 2, 5);
        raft_entries_truncate(&b.core->log, 5);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 0, &entry, 1), -ESHUTDOWN);
        assert_false(has_said(&b, "append 6"));
        done(&b);

        start(&b, "VVV", 2, 5);
        raft_entries_cut(&b.core->log, 4);
        assert_int_equal(receive_append(&b, 2, 3, 2, 2, 0, &other, 1), -ESHUTDOWN);
        assert_false(has_said(&b, "append 3"));
        done(&b);

        start(&b, "VVV", 2, 5);
        raft_entries_cut(&b.core->log, 4); /* what is to be applied begins before it */
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 5, NULL, 0), -ESHUTDOWN);
        assert_false(has_said(&b, "apply"));
        done(&b);

        start(&b, "VVV", 2, 5);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 1, NULL, 0), 0);
        raft_entries_truncate(&b.core->log, 4); /* it ends before what is committed */
        text_clear(&b.said);
        assert_int_equal(receive_append(&b, 2, 2, 5, 2, 5, NULL, 0), -ESHUTDOWN);
        assert_false(has_said(&b, "apply"));
        done(&b);
}

/* The configuration ends the first part: what is committed is applied before the second. */
static void what_is_committed_is_applied_between_the_parts_of_a_message(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVVs");
        RaftEntry first[] = { command(2), command(2) },
                  second[] = { command(2), change_entry(2, &conf), command(2) };
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 1);
        assert_int_equal(receive_append(&b, 2, 2, 1, 1, 1, first, 2), 0);
        assert_int_equal(durable(&b), 0);
        text_clear(&b.said);
        assert_int_equal(receive_append(&b, 2, 2, 3, 2, 3, second, 3), 0);
        assert_said(&b, "append 4..4\napply 2..3\nappend 5..6\n");
}

static void a_vote_stays_where_a_follower_asks_for_others(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVV", 2, 5);
        RECEIVE(&b, 3, 0, .type = RAFT_MESSAGE_VOTE, .term = 3,
                .vote = { .candidate = 3, .last_index = 5, .last_term = 2 });
        assert_int_equal(b.core->raft.voted_for, 3);
        tick_until_due(&b);
        assert_true(has_said(&b, " pre\n"));
        assert_int_equal(b.core->raft.voted_for, 3);
        assert_int_equal(raft_core_term(b.core), 3);
}

static void what_a_voter_can_do_is_known_by_its_vote(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVVV", 2, 5);
        tick_until_due(&b);
        RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_VOTE_RESULT, .term = 3,
                .vote_result = { true, true, .features = 5, .capacity = 9 });
        assert_true(b.core->raft.candidate_state.votes[1].grant);
        assert_int_equal(b.core->raft.candidate_state.votes[1].features, 5);
        assert_int_equal(b.core->raft.candidate_state.votes[1].capacity, 9);
}

static void the_sender_of_a_snapshot_is_the_leader(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");
        _cleanup_(done) Bench b;

        start(&b, "VVV", 1, 5);
        assert_int_equal(receive_snapshot(&b, 3, 2, 50, &conf), 0);
        assert_int_equal(raft_core_leader(b.core), 3);
}

static void what_is_applied_beyond_an_installed_state_stays_so(void **state) {
        _cleanup_conf_ Conf conf = conf_of("VVV");

        for (uint64_t applied = 49; applied <= 51; applied++) {
                _cleanup_(done) Bench b;

                start(&b, "VVV", 1, 5);
                b.core->applied = applied;
                b.core->applied_term = 1;
                assert_int_equal(receive_snapshot(&b, 2, 2, 50, &conf), 0);
                assert_true(has_said(&b, applied < 50 ? "install 50\n" : "install 50 keep\n"));
                assert_int_equal(raft_core_installed(b.core, b.now_ms), 0);
                assert_int_equal(raft_core_applied_index(b.core), MAX(applied, 50));
                assert_int_equal(b.core->applied_term, applied < 50 ? 2 : 1);
                assert_int_equal(b.core->handled, 50);
        }
}

/* The configuration in force is the one at the very index that a voter holds. */
static void a_voter_knows_the_configuration_that_it_just_holds(void **state) {
        _cleanup_(done) Bench b;

        start(&b, "VVVV", 2, 5);
        elect(&b);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_result(&b, 2, 6), 0);
        assert_int_equal(receive_result(&b, 3, 6), 0);
        assert_int_equal(change(&b, RAFT_CHANGE_MOVE, 3, "c:9", false), 0);
        assert_int_equal(durable(&b), 0);
        assert_int_equal(receive_result(&b, 2, 7), 0);
        assert_int_equal(receive_result(&b, 3, 7), 0);
        assert_int_equal(b.core->raft.configuration_committed_index, 7);
        assert_int_equal(change(&b, RAFT_CHANGE_REMOVE, 3, NULL, false), 0); /* 1 and 2 of 1, 2 and 4 */
}

/* Else it would lead with entries that may be lost with it. */
static void a_sole_voter_with_an_entry_under_way_begins_no_term(void **state) {
        Bench b;

        for (unsigned stored = 0; stored < 2; stored++) {
                start(&b, "Vs", 4, 1);
                if (stored)
                        assert_int_equal(durable(&b), 0);
                RECEIVE(&b, 2, 0, .type = RAFT_MESSAGE_APPEND_RESULT, .term = 9);
                assert_int_equal(raft_core_state(b.core), RAFT_STATE_FOLLOWER);
                text_clear(&b.said);
                tick_until_due(&b);
                assert_int_equal(has_said(&b, "meta 10 1\n"), stored);
                assert_int_equal(raft_core_term(b.core), stored ? 10 : 9);
                done(&b);
        }
}

static void configurations_decode_and_corrupt_ones_are_rejected(void **state) {
        _cleanup_conf_ Conf conf = conf_of("Vs-");
        _cleanup_(raft_servers_done) RaftServers servers = {};
        RaftServer twice[] = { { 1, (char *) "a:1", RAFT_ROLE_VOTER },
                               { 1, (char *) "b:1", RAFT_ROLE_VOTER } };
        RaftServers bad = { .items = twice, .n = 2 };
        uint8_t *bytes = conf.bytes;
        size_t size;
        void *out;

        assert_int_equal(raft_configuration_decode_servers(conf.bytes, conf.size, &servers), 0);
        assert_int_equal(servers.n, 3);
        assert_int_equal(servers.items[1].id, 2);
        assert_string_equal(servers.items[1].address, "b:1");
        assert_int_equal(servers.items[0].role, RAFT_ROLE_VOTER);
        assert_int_equal(servers.items[1].role, RAFT_ROLE_STANDBY);
        assert_int_equal(servers.items[2].role, RAFT_ROLE_SPARE);

        assert_int_equal(raft_configuration_encode_servers(&bad, &out, &size), -EEXIST);
        twice[1].id = 2;
        twice[1].address = (char *) "a:1";
        assert_int_equal(raft_configuration_encode_servers(&bad, &out, &size), -EEXIST);
        assert_int_equal(raft_configuration_encode_servers(&(RaftServers) {}, &out, &size), -EINVAL);

        for (size_t i = 0; i + 8 < conf.size; i++) {
                RaftServers none;

                assert_int_equal(raft_configuration_decode_servers(bytes, i, &none), -EBADMSG);
        }
        {
                /* Version, count, then of each server id, address, role; what is behind is padding. */
                static const struct {
                        size_t at;
                        uint8_t value;
                } damage[] = { { 0, 2 }, { 1, 0 }, { 9, 0 }, { 17, 0 }, { 21, 3 } };

                for (size_t i = 0; i < ELEMENTS(damage); i++) {
                        RaftServers none;
                        uint8_t was = bytes[damage[i].at];

                        assert_int_not_equal(was, damage[i].value);
                        bytes[damage[i].at] = damage[i].value;
                        assert_int_equal(raft_configuration_check(bytes, conf.size), -EBADMSG);
                        assert_int_equal(raft_configuration_decode_servers(bytes, conf.size, &none),
                                         -EBADMSG);
                        bytes[damage[i].at] = was;
                }
        }
        bytes[1] = 200;
        assert_int_equal(raft_configuration_decode_servers(bytes, conf.size, &(RaftServers) {}), -EBADMSG);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(a_sole_voter_leads_in_a_new_term_that_it_voted_for),
                cmocka_unit_test(a_sole_voter_that_lost_its_term_takes_a_new_one_when_it_leads_again),
                cmocka_unit_test(whether_a_log_fits_its_state),
                cmocka_unit_test(a_core_needs_an_id_and_an_address),
                cmocka_unit_test(times_that_are_not_given_are_the_defaults),
                cmocka_unit_test(a_core_without_memory_says_so),
                cmocka_unit_test(errors_of_the_engine_are_those_of_the_system),
                cmocka_unit_test(a_state_behind_what_is_applied_makes_nothing_be_applied_twice),
                cmocka_unit_test(entries_behind_a_configuration_are_applied_with_the_same_input),
                cmocka_unit_test(unapplied_committed_entries_are_reported),
                cmocka_unit_test(only_standbys_are_watched_and_only_by_a_leader),
                cmocka_unit_test(a_leader_begins_with_an_entry_without_data),
                cmocka_unit_test(votes_and_their_results_say_all_that_the_engine_says),
                cmocka_unit_test(the_rest_is_left_also_where_the_first_entry_is_rejected),
                cmocka_unit_test(what_is_stored_ends_before_what_was_replaced),
                cmocka_unit_test(what_is_received_is_kept_as_it_came_or_not_at_all),
                cmocka_unit_test(a_sole_voter_by_its_state_or_by_the_log_behind_it_begins_a_new_term),
                cmocka_unit_test(a_log_with_a_configuration_that_is_none_is_not_started_from),
                cmocka_unit_test(a_log_that_does_not_fit_is_not_started_from),
                cmocka_unit_test(a_core_that_cannot_start_for_want_of_memory_says_so),
                cmocka_unit_test(submitting_is_the_leaders_and_bounded),
                cmocka_unit_test(what_the_owner_does_not_apply_at_once_follows_in_slices),
                cmocka_unit_test(a_leader_that_is_behind_with_applying_takes_nothing_new),
                cmocka_unit_test(a_state_that_is_installed_ends_what_was_to_be_applied),
                cmocka_unit_test(a_state_that_comes_without_memory_is_not_installed),
                cmocka_unit_test(a_follower_that_there_is_no_memory_for_is_watched_later),
                cmocka_unit_test(a_message_of_no_type_is_dropped),
                cmocka_unit_test(a_rule_that_is_off_changes_nothing),
                cmocka_unit_test(an_old_terms_leader_learns_the_term_and_no_index),
                cmocka_unit_test(a_refused_pre_vote_learns_the_higher_term),
                cmocka_unit_test(an_unrequested_vote_is_dropped),
                cmocka_unit_test(entries_below_our_snapshot_are_left_out),
                cmocka_unit_test(each_configuration_of_a_message_has_its_own_index),
                cmocka_unit_test(the_rest_of_a_message_that_is_rejected_is_left),
                cmocka_unit_test(the_first_of_two_configurations_in_the_log_is_remembered_when_it_is_applied),
                cmocka_unit_test(a_second_snapshot_while_one_is_in_work_is_dropped),
                cmocka_unit_test(a_core_that_ends_during_an_install_gives_everything_back),
                cmocka_unit_test(a_received_state_that_is_older_than_ours_does_not_replace_it),
                cmocka_unit_test(messages_that_cannot_be_are_dropped),
                cmocka_unit_test(messages_at_the_limits_are_taken),
                cmocka_unit_test(another_leader_in_our_term_ends_the_core),
                cmocka_unit_test(an_observed_leader_counts_in_its_term),
                cmocka_unit_test(only_changes_are_notified),
                cmocka_unit_test(what_apply_cannot_do_ends_the_core),
                cmocka_unit_test(what_was_submitted_is_so_also_where_the_core_ends_right_behind_it),
                cmocka_unit_test(a_core_that_has_ended_answers_each_input_alike_and_asks_for_nothing),
                cmocka_unit_test(a_candidate_does_not_catch_up),
                cmocka_unit_test(an_entry_of_a_term_that_cannot_be_written_is_neither_taken_nor_kept),
                cmocka_unit_test(a_replaced_write_is_not_reported),
                cmocka_unit_test(a_write_that_a_state_has_replaced_is_not_reported),
                cmocka_unit_test(a_report_covers_the_writes_before_it),
                cmocka_unit_test(
                        a_checkpoint_counts_when_it_is_durable_in_the_log_and_knows_the_configuration),
                cmocka_unit_test(a_follower_behind_the_log_gets_a_snapshot),
                cmocka_unit_test(invalid_configuration_changes_are_rejected_with_a_message),
                cmocka_unit_test(a_rejected_address_is_reported_with_its_reason),
                cmocka_unit_test(a_change_without_memory_changes_nothing),
                cmocka_unit_test(a_standby_that_is_far_behind_or_silent_has_not_caught_up),
                cmocka_unit_test(a_standby_has_caught_up_within_100_entries_and_may_be_silent_for_a_second),
                cmocka_unit_test(a_promotion_is_on_our_disk_only_after_the_promoted_server_has_it),
                cmocka_unit_test(nothing_is_changed_before_an_entry_of_the_leaders_own_term_is_committed),
                cmocka_unit_test(a_promotion_reaches_others_only_after_the_promoted_server_has_it),
                cmocka_unit_test(leadership_lost_during_a_promotion_means_to_start_again),
                cmocka_unit_test(a_promoted_server_that_stays_silent_ends_its_promotion),
                cmocka_unit_test(a_demotion_leaves_only_when_it_is_on_our_disk),
                cmocka_unit_test(no_voter_leaves_while_too_few_have_the_configuration),
                cmocka_unit_test(an_address_has_255_bytes_and_a_configuration_64_servers_at_most),
                cmocka_unit_test(
                        below_three_voters_a_removal_needs_force_and_during_a_transfer_nothing_changes),
                cmocka_unit_test(a_removal_leaves_only_when_it_is_on_our_disk),
                cmocka_unit_test(a_server_that_has_followed_for_two_seconds_has_caught_up),
                cmocka_unit_test(a_server_knows_its_role_and_that_a_configuration_is_not_committed),
                cmocka_unit_test(leadership_is_transferred_and_submissions_wait_elsewhere),
                cmocka_unit_test(an_engine_without_memory_ends_the_core),
                cmocka_unit_test(a_log_that_is_not_the_engine_s_ends_the_core),
                cmocka_unit_test(what_is_committed_is_applied_between_the_parts_of_a_message),
                cmocka_unit_test(a_vote_stays_where_a_follower_asks_for_others),
                cmocka_unit_test(what_a_voter_can_do_is_known_by_its_vote),
                cmocka_unit_test(the_sender_of_a_snapshot_is_the_leader),
                cmocka_unit_test(what_is_applied_beyond_an_installed_state_stays_so),
                cmocka_unit_test(a_voter_knows_the_configuration_that_it_just_holds),
                cmocka_unit_test(a_sole_voter_with_an_entry_under_way_begins_no_term),
                cmocka_unit_test(configurations_decode_and_corrupt_ones_are_rejected),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
