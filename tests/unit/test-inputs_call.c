/* The content of a unit of a host: from its own tree, or by a replica. One host of the two is played, and
 * what the tree has (resolver_read()). */

#include "tests/lib/test.h"
#include "fleetd/features/inputs/content_bytes.h"
#include "tests/lib/commands.h"
#include "tests/lib/quiet_peer.h"

enum { STEP_MS = 100, PART = 64 * 1024, FUTURE = 1000000 };

#define ATTACHED QUIET_PEER_OTHER_ID
#define HOST     "/_fleet/cluster/host/"
#define PIN      "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define TEXT(x)  "[Service]\nExecStart=/bin/true\n[X-Fleet]\nSecret=" x "\nConfigKeys=/config/a\n"
#define UNKNOWN  "0123456789abcdef0123456789abcdef01234567"
#define PASSWORD "correct horse battery staple"

/* -- The tree -- */

static struct {
        int error;
        VerdictCode problem;
        size_t n_large;               /* values of PART bytes each */
        unsigned n_reads, n_values;   /* calls so far; values that were not freed */
        char unit[UNIT_NAME_MAX + 1]; /* of the last one */
} tree;

static char large[PART];

static void item_add(ContentItem **items, size_t *n, const char *name, const void *value, size_t size) {
        *items = realloc(*items, (*n + 1) * sizeof(**items));
        assert_non_null(*items);
        (*items)[(*n)++] = (ContentItem) { strdup(name), value, size };
}

/* The value of a secret is PASSWORD; its name shows which text has named it. */
int __wrap_resolver_read(const ComponentHost *host, const char *unit, const InputPolicy *policy, bool open,
                         Resolved *ret, ResolverValues **ret_values);
int __wrap_resolver_read(const ComponentHost *host, const char *unit, const InputPolicy *policy, bool open,
                         Resolved *ret, ResolverValues **ret_values) {
        Content *c = &ret->content;

        assert_true(open);
        tree.n_reads++;
        snprintf(tree.unit, sizeof(tree.unit), "%s", unit);
        if (tree.error < 0)
                return tree.error;
        *ret = (Resolved) { .index = kv_index(host->store) };
        *ret_values = (ResolverValues *) &tree;
        tree.n_values++;
        if (tree.problem != VERDICT_NONE) {
                verdict_set(&c->problem, tree.problem, "%s" VERDICT_NEXT "%s", "db", "no key");
                return 0;
        }
        snprintf(c->digest, sizeof(c->digest), "0a1b");
        for (size_t i = 0; i < policy->secrets.n; i++)
                item_add(&c->credentials, &c->n_credentials, policy->secrets.items[i], PASSWORD,
                         strlen(PASSWORD));
        item_add(&c->variables, &c->n_variables, "A_B", "", 0);
        item_add(&c->files, &c->n_files, "a/b.conf", "1\n", 2);
        for (size_t i = 0; i < tree.n_large; i++) {
                char name[32];

                snprintf(name, sizeof(name), "large/%zu", i);
                item_add(&c->files, &c->n_files, name, large, sizeof(large));
        }
        return 0;
}

ResolverValues *__wrap_resolver_values_free(ResolverValues *v);
ResolverValues *__wrap_resolver_values_free(ResolverValues *v) {
        if (v)
                tree.n_values--;
        return NULL;
}

static bool without_budget;

bool __real_loop_has_budget(const Loop *loop);
bool __wrap_loop_has_budget(const Loop *loop);
bool __wrap_loop_has_budget(const Loop *loop) {
        return !without_budget && __real_loop_has_budget(loop);
}

static uint64_t registry_at; /* index of the cluster view; 0: as it is */

uint64_t __real_registry_index(const Registry *r);
uint64_t __wrap_registry_index(const Registry *r);
uint64_t __wrap_registry_index(const Registry *r) {
        return registry_at ?: __real_registry_index(r);
}

static void tree_begin(void) {
        tree = (typeof(tree)) {};
        without_budget = false;
        registry_at = 0;
        memset(large, 'x', sizeof(large));
}

/* What 'done' got. */
typedef struct Result {
        unsigned n;
        bool resolved;
        uint64_t index;
        VerdictCode problem;
        char text[256]; /* "NAME=VALUE " of all but large values */
        size_t n_large;
} Result;

static void result_add(Result *result, const ContentItem *items, size_t n) {
        size_t used = strlen(result->text);

        for (size_t i = 0; i < n; i++)
                if (items[i].size == PART && memcmp(items[i].value, large, PART) == 0)
                        result->n_large++;
                else
                        used += snprintf(result->text + used, sizeof(result->text) - used, "%s=%.*s ",
                                         items[i].name, (int) items[i].size, (const char *) items[i].value);
}

static void result_take(Result *result, const Resolved *r) {
        result->resolved = true;
        result->index = r->index;
        result->problem = r->content.problem.code;
        result_add(result, r->content.credentials, r->content.n_credentials);
        result_add(result, r->content.variables, r->content.n_variables);
        result_add(result, r->content.files, r->content.n_files);
}

static void on_resolved(void *userdata, const Resolved *r) {
        Result *result = userdata;

        result->n++;
        if (r)
                result_take(result, r);
}

#define ALL(secret) secret "=" PASSWORD " A_B= a/b.conf=1\n "

/* -- The store of a replica -- */

static QuietPeer *h;
static Resolver *resolver;

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        *(KvStatus *) userdata = status;
}

#define DONE(call)                                                           \
        do {                                                                 \
                KvStatus done_ = KV_UNKNOWN, *status = &done_;               \
                                                                             \
                assert_int_equal(call, 0);                                   \
                for (unsigned i_ = 0; i_ < 100 && done_ == KV_UNKNOWN; i_++) \
                        quiet_peer_pass(h, 10);                              \
                assert_int_equal(done_, KV_OK);                              \
                quiet_peer_pass(h, 20); /* the cluster view has it, too */   \
        } while (false)

static void submit(const char *name, const char *text) {
        _cleanup_unit_ Unit *unit = NULL;
        UnitChange change = { .has_target = true, .target = TARGET_LAUNCHED };

        assert_int_equal(unit_parse(name, text, strlen(text), &unit, NULL), 0);
        change.unit = unit;
        DONE(registry_change_units(h->registry, &change, 1, on_done, status));
}

static void assign(const char *name, const char *machine, AssignmentKind kind) {
        const ClusterUnit *u = cluster_unit(registry_cluster(h->registry), name);
        const ClusterAssignment *there = cluster_assignment(registry_cluster(h->registry), machine, name);
        AssignmentChange change = { .kind = kind,
                                    .unit_index = u->index,
                                    .expected_index = there ? there->index : 0,
                                    .revision = revisions_wanted(&u->unit->revisions) };
        KvState state;
        size_t n;

        snprintf(change.unit, sizeof(change.unit), "%s", name);
        snprintf(change.machine, sizeof(change.machine), "%s", machine);
        snprintf(change.hash, sizeof(change.hash), "%s", u->unit->hash);
        kv_state(h->store, &state);
        DONE(registry_assign(h->registry, state.term, &change, 1, &n, on_done, status));
}

static void have_machine(const char *id) {
        Machine m = { .name = (char *) "beta", .address = (char *) "10.0.0.1", .version = (char *) "0" };

        snprintf(m.id, sizeof(m.id), "%s", id);
        DONE(registry_publish_facts(h->registry, &m, on_done, status));
}

static void write_key(const char *key, const char *value) {
        KvCommand write = SET(key, value, .internal = true);
        KvCommand txn = { .op = KV_TXN, .internal = true, .writes = &write, .n_writes = 1 };

        DONE(registry_propose(h->registry, &txn, on_done, status));
}

static const char *hash_of(const char *unit) {
        return cluster_unit(registry_cluster(h->registry), unit)->unit->hash;
}

static int replica_setup(void **state) {
        KvState store = {};

        tree_begin();
        h = quiet_peer_new(false);
        for (unsigned i = 0; i < 100 && store.level < KV_LEVEL_INPUTS; i++) {
                quiet_peer_pass(h, 100);
                kv_state(h->store, &store);
        }
        assert_true(store.level >= KV_LEVEL_INPUTS);
        have_machine(QUIET_PEER_ID);
        have_machine(ATTACHED);
        submit("a.service", TEXT("db"));
        submit("b.service", TEXT("other"));
        assign("a.service", ATTACHED, ASSIGNMENT_RUN);
        assign("b.service", QUIET_PEER_ID, ASSIGNMENT_RUN);
        assert_int_equal(resolver_new(&resolver, &h->components), 0);
        h->attached = true;
        (void) quiet_peer_meet(h); /* the replica does not dial it */
        assert_true(h->asking.open);
        return 0;
}

static int teardown(void **state) {
        resolver = resolver_free(resolver);
        assert_int_equal(tree.n_values, 0);
        h = quiet_peer_free(h);
        return 0;
}

/* -- The host that asks is played -- */

static void request_of(const char *unit, const char *hash, uint64_t index, Writer *w) {
        static uint32_t number;

        write_u8(w, 1);
        write_u32(w, ++number);
        write_string(w, unit);
        write_string(w, hash);
        write_u64(w, index);
        assert_int_equal(w->error, 0);
}

/* Take the next answer of the replica. Return its status, or -ENOENT. */
static int take_answer(Result *ret, size_t *ret_parts) {
        _cleanup_writer_ Writer answer = {};
        InputsStatus status;
        Resolved resolved;
        Frame f;

        *ret = (Result) {};
        *ret_parts = 0;
        while (quiet_peer_receive(&h->asking, &f)) {
                if (f.type != PEER_INPUTS_PART)
                        continue;
                assert_true(f.size >= INPUTS_PART_HEAD && f.size <= 4096);
                write_raw(&answer, f.payload + INPUTS_PART_HEAD, f.size - INPUTS_PART_HEAD);
                ++*ret_parts;
                if (f.size - INPUTS_PART_HEAD == INPUTS_PART_MAX)
                        continue;
                assert_int_equal(inputs_answer_read(answer.bytes, answer.size, &status, &resolved), 0);
                if (status == INPUTS_RESOLVED)
                        result_take(ret, &resolved);
                content_done(&resolved.content);
                return (int) status;
        }
        assert_int_equal(*ret_parts, 0);
        return -ENOENT;
}

static int ask(const char *unit, const char *hash, uint64_t index, Result *ret) {
        _cleanup_writer_ Writer w = {};
        size_t parts;

        request_of(unit, hash, index, &w);
        assert_true(quiet_peer_send_on(&h->asking, PEER_INPUTS, w.bytes, w.size));
        return take_answer(ret, &parts);
}

static void a_host_gets_the_content_of_a_unit_that_is_assigned_to_it(void **state) {
        Result result;

        assert_int_equal(ask("a.service", hash_of("a.service"), 1, &result), INPUTS_RESOLVED);
        assert_string_equal(result.text, ALL("db"));
        assert_int_equal(result.index, kv_index(h->store));
        assert_string_equal(tree.unit, "a.service");
}

/* Nothing is read for the others. */
static void assert_only_its_own(void) {
        Result result;

        tree.n_reads = 0;
        assert_int_equal(ask("b.service", hash_of("b.service"), 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(ask("b.service", hash_of("a.service"), 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(ask("none.service", UNKNOWN, 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(ask("", "", 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(ask("a.service", UNKNOWN, 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(tree.n_reads, 0);
        assert_int_equal(ask("a.service", hash_of("a.service"), 1, &result), INPUTS_RESOLVED);
}

static void a_host_gets_no_content_of_a_unit_of_another_one(void **state) {
        assert_only_its_own();
        write_key(HOST ATTACHED, "{\"joined\":1,\"pins\":[\"" PIN "\"],\"restricted\":true}");
        assert_only_its_own();
}

static void a_host_gets_no_content_of_a_unit_that_is_to_stop(void **state) {
        Result result;

        assign("a.service", ATTACHED, ASSIGNMENT_STOP);
        assert_int_equal(ask("a.service", hash_of("a.service"), 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(tree.n_reads, 0);
}

static void on_removed(void *userdata, const RegistryChange *change) {
        const Writer *w = userdata;

        if (change->key && change->key->kind == LAYOUT_REMOVED)
                quiet_peer_put_on(&h->asking, PEER_INPUTS, w->bytes, w->size);
}

/* Its session has not ended yet. */
static void a_host_that_was_removed_gets_no_content(void **state) {
        _cleanup_writer_ Writer w = {};
        RegistryObserver observer = { .on_change = on_removed, .userdata = &w };
        Result result;
        size_t parts;

        request_of("a.service", hash_of("a.service"), 1, &w);
        registry_observe(h->registry, &observer);
        write_key("/_fleet/cluster/removed/" ATTACHED, "{\"by\":\"root\",\"index\":1,\"since\":1}");
        registry_unobserve(h->registry, &observer);
        assert_int_equal(take_answer(&result, &parts), INPUTS_UNASSIGNED);
        assert_int_equal(tree.n_reads, 0);
}

/* The secrets of a text that the host does not have yet, or any more, are not for it. */
static void the_text_of_the_assignment_decides_what_a_host_gets(void **state) {
        char former[UNIT_HASH_SIZE];
        Result result;

        snprintf(former, sizeof(former), "%s", hash_of("a.service"));
        submit("a.service", TEXT("next"));
        assert_string_not_equal(former, hash_of("a.service"));
        assert_int_equal(ask("a.service", hash_of("a.service"), 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(ask("a.service", former, 1, &result), INPUTS_RESOLVED);
        assert_string_equal(result.text, ALL("db"));

        assign("a.service", ATTACHED, ASSIGNMENT_RUN);
        assert_int_equal(ask("a.service", former, 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(ask("a.service", hash_of("a.service"), 1, &result), INPUTS_RESOLVED);
        assert_string_equal(result.text, ALL("next"));
}

/* Another text has other secrets. */
static void a_text_that_cannot_be_read_gives_no_content(void **state) {
        const ClusterUnit *u = cluster_unit(registry_cluster(h->registry), "b.service");
        AssignmentChange change = { .kind = ASSIGNMENT_RUN,
                                    .unit_index = u->index,
                                    .revision = FUTURE,
                                    .unit = "b.service",
                                    .machine = ATTACHED,
                                    .hash = UNKNOWN };
        Result result;
        KvState state_;
        size_t n;

        kv_state(h->store, &state_);
        DONE(registry_assign(h->registry, state_.term, &change, 1, &n, on_done, status));
        assert_non_null(cluster_assignment(registry_cluster(h->registry), ATTACHED, "b.service"));
        assert_int_equal(ask("b.service", UNKNOWN, 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(ask("b.service", hash_of("b.service"), 1, &result), INPUTS_UNASSIGNED);
        assert_int_equal(tree.n_reads, 0);
}

static void a_replica_says_that_it_is_behind_or_has_no_key(void **state) {
        const char *hash = hash_of("a.service");
        Result result;

        assert_int_equal(ask("a.service", hash, kv_index(h->store) + 1, &result), INPUTS_BEHIND);
        assert_int_equal(ask("a.service", hash, UINT64_MAX, &result), INPUTS_BEHIND);
        registry_at = 5; /* the cluster view is behind the tree */
        assert_int_equal(ask("a.service", hash, 6, &result), INPUTS_BEHIND);
        registry_at = 0;
        assert_int_equal(tree.n_reads, 0);
        tree.error = -EAGAIN;
        assert_int_equal(ask("a.service", hash, 1, &result), INPUTS_BEHIND);
        tree.error = -ENOMEM;
        assert_int_equal(ask("a.service", hash, 1, &result), INPUTS_BEHIND);
        tree.error = -ENOKEY;
        assert_int_equal(ask("a.service", hash, 1, &result), INPUTS_NO_KEY);
        tree.error = 0;
        tree.problem = VERDICT_SECRET_UNOPENED;
        assert_int_equal(ask("a.service", hash, 1, &result), INPUTS_NO_KEY);
        tree.problem = VERDICT_AWAITS_SECRET;
        assert_int_equal(ask("a.service", hash, 1, &result), INPUTS_RESOLVED);
        assert_int_equal(result.problem, VERDICT_AWAITS_SECRET);
        assert_string_equal(result.text, "");
}

static void a_host_gets_contents_at_a_limited_rate(void **state) {
        const char *hash = hash_of("a.service");
        Result result;

        for (unsigned i = 0; i < 1000; i++)
                assert_int_equal(ask("a.service", hash, 1, &result),
                                 i < 200 ? INPUTS_RESOLVED : INPUTS_BEHIND);
        assert_int_equal(tree.n_reads, 200);
        quiet_peer_pass(h, 1000);
        for (unsigned i = 0; i < 100; i++)
                (void) ask("a.service", hash, 1, &result);
        assert_int_equal(tree.n_reads, 220);
        assert_int_equal(ask("a.service", hash, 1, &result), INPUTS_BEHIND);
}

static void a_large_content_travels_in_parts(void **state) {
        _cleanup_writer_ Writer w = {};
        Result result;
        size_t parts;

        tree.n_large = INPUT_FILES_SIZE_MAX / PART - 1;
        request_of("a.service", hash_of("a.service"), 1, &w);
        assert_true(quiet_peer_send_on(&h->asking, PEER_INPUTS, w.bytes, w.size));
        assert_int_equal(take_answer(&result, &parts), INPUTS_RESOLVED);
        assert_int_equal(result.n_large, tree.n_large);
        assert_string_equal(result.text, ALL("db"));
        assert_true(parts > tree.n_large * PART / INPUTS_PART_MAX);
}

static void without_budget_one_request_of_a_turn_is_answered(void **state) {
        unsigned n_reads = 0, n_behind = 0;
        _cleanup_writer_ Writer w = {};
        Result result;
        size_t parts;
        int status;

        without_budget = true;
        request_of("a.service", hash_of("a.service"), 1, &w);
        for (unsigned i = 0; i < 5; i++)
                quiet_peer_put_on(&h->asking, PEER_INPUTS, w.bytes, w.size);
        quiet_peer_run(h);
        for (; (status = take_answer(&result, &parts)) >= 0; n_reads += status == INPUTS_RESOLVED)
                n_behind += status == INPUTS_BEHIND;
        assert_true(n_reads >= 1 && n_behind >= 1);
        assert_int_equal(n_reads + n_behind, 5);
        assert_int_equal(n_reads, tree.n_reads);
}

static void a_request_that_is_cut_or_too_long_is_dropped(void **state) {
        _cleanup_writer_ Writer w = {};
        Result result;
        size_t parts;

        request_of("a.service", hash_of("a.service"), 1, &w);
        write_u8(&w, 0);
        for (size_t size = 0; size <= w.size; size++)
                if (size != w.size - 1)
                        assert_true(quiet_peer_send_on(&h->asking, PEER_INPUTS, w.bytes, size));
        w.bytes[0]++; /* another version */
        assert_true(quiet_peer_send_on(&h->asking, PEER_INPUTS, w.bytes, w.size - 1));
        assert_int_equal(take_answer(&result, &parts), -ENOENT);
        assert_int_equal(tree.n_reads, 0);
        w.bytes[0]--;
        assert_true(quiet_peer_send_on(&h->asking, PEER_INPUTS, w.bytes, w.size - 1));
        assert_int_equal(take_answer(&result, &parts), INPUTS_RESOLVED);
}

/* -- A host with a replica -- */

static void begin(const char *unit, const char *text, uint64_t index, Result *result) {
        _cleanup_unit_ Unit *parsed = NULL;

        assert_int_equal(unit_parse(unit, text, strlen(text), &parsed, NULL), 0);
        *result = (Result) {};
        assert_int_equal(resolver_begin(resolver, parsed, index, on_resolved, result), 0);
        assert_int_equal(result->n, 0); /* 'done' comes from the loop */
}

static void a_host_with_a_replica_reads_its_own_tree(void **state) {
        Result one, two, three;

        begin("b.service", TEXT("other"), kv_index(h->store), &one);
        quiet_peer_run(h);
        assert_int_equal(one.n, 1);
        assert_string_equal(one.text, ALL("other"));
        assert_int_equal(tree.n_values, 0);

        begin("b.service", TEXT("other"), kv_index(h->store) + FUTURE, &one);
        quiet_peer_run(h);
        begin("a.service", TEXT("db"), 1, &two); /* of the other host */
        quiet_peer_run(h);
        begin("c.service", TEXT("db"), 1, &three);
        quiet_peer_run(h);
        assert_true(one.n == 1 && two.n == 1 && three.n == 1);
        assert_false(one.resolved || two.resolved || three.resolved);

        tree.error = -EAGAIN;
        begin("b.service", TEXT("other"), 1, &one);
        quiet_peer_run(h);
        assert_true(one.n == 1 && !one.resolved);
        tree.error = 0;
        begin("b.service", TEXT("other"), 1, &one);
        resolver_cancel(resolver, "b.service");
        resolver_cancel(resolver, "b.service");
        quiet_peer_run(h);
        assert_int_equal(one.n, 0);
}

/* -- An attached host; the replica is played -- */

static void says(QuietPeerWire *wire, PeerFrame type, Writer *w) {
        assert_int_equal(w->error, 0);
        assert_true(quiet_peer_send_on(wire, type, w->bytes, w->size));
        writer_done(w);
}

static int attached_setup(void **state) {
        Frame f;

        tree_begin();
        h = quiet_peer_new(true);
        assert_true(quiet_peer_meet(h));
        kv_attach(h->store, QUIET_PEER_OTHER_ID);
        assert_int_equal(resolver_new(&resolver, &h->components), 0);
        quiet_peer_pass(h, STEP_MS);
        while (quiet_peer_receive(&h->asked, &f))
                ;
        return 0;
}

/* Take the next request that the host has sent. Return its number, or 0. */
static uint32_t take_request(QuietPeerWire *wire, const char *unit, uint64_t index) {
        Frame f;

        while (quiet_peer_receive(wire, &f))
                if (f.type == PEER_INPUTS) {
                        Reader r = reader_over(f.payload, f.size);
                        uint8_t version = read_u8(&r);
                        uint32_t number = read_u32(&r);
                        _cleanup_free_ char *name = read_string(&r, UNIT_NAME_MAX),
                                            *hash = read_string(&r, UNIT_HASH_SIZE - 1);

                        assert_int_equal(version, 1);
                        assert_string_equal(name, unit);
                        assert_int_equal(strlen(hash), UNIT_HASH_SIZE - 1);
                        assert_int_equal(read_u64(&r), index);
                        assert_int_equal(reader_end(&r), 0);
                        return number;
                }
        return 0;
}

/* Begin a call, and return the number of its request. */
static uint32_t begin_call(const char *unit, uint64_t index, Result *result) {
        uint32_t number;

        begin(unit, TEXT("db"), index, result);
        quiet_peer_run(h);
        number = take_request(&h->asked, unit, index);
        assert_true(number > 0);
        return number;
}

static void answer_with(InputsStatus status, uint64_t index, const char *file, Writer *w) {
        ContentItem items[] = { { (char *) "db", PASSWORD, strlen(PASSWORD) },
                                { (char *) "A_B", "", 0 },
                                { (char *) file, "1\n", 2 } };
        Resolved resolved = { .index = index,
                              .content = { .credentials = &items[0],
                                           .n_credentials = 1,
                                           .variables = &items[1],
                                           .n_variables = 1,
                                           .files = &items[2],
                                           .n_files = 1 } };

        inputs_answer_write(status, &resolved, w);
}

static void says_part(uint32_t number, const void *bytes, size_t size) {
        Writer w = {};

        write_u32(&w, number);
        write_raw(&w, bytes, size);
        says(&h->asked, PEER_INPUTS_PART, &w);
}

/* In parts as a replica sends them. */
static void says_answer(uint32_t number, const Writer *w) {
        for (size_t at = 0; at <= w->size; at += INPUTS_PART_MAX)
                says_part(number, w->bytes + at, MIN(w->size - at, (size_t) INPUTS_PART_MAX));
}

static void says_status(uint32_t number, InputsStatus status) {
        _cleanup_writer_ Writer w = {};

        answer_with(status, 0, "a", &w);
        says_part(number, w.bytes, w.size);
}

static void assert_not_now(const char *unit) {
        _cleanup_unit_ Unit *text = NULL;
        Result result = {};

        assert_int_equal(unit_parse(unit, TEXT("db"), strlen(TEXT("db")), &text, NULL), 0);
        assert_int_equal(resolver_begin(resolver, text, 1, on_resolved, &result), -EAGAIN);
}

/* Of sizes around those of one and of two parts. */
static void an_attached_host_gets_the_content_in_parts(void **state) {
        for (size_t size = 1; size <= 2 * INPUTS_PART_MAX; size += size % 4000 < 3900 ? 650 : 1) {
                ContentItem file = { "x", large, size };
                Resolved resolved = { .index = 7, .content = { .files = &file, .n_files = 1 } };
                _cleanup_writer_ Writer w = {};
                Result result;
                uint32_t number = begin_call("a.service", 7, &result);

                inputs_answer_write(INPUTS_RESOLVED, &resolved, &w);
                says_answer(number, &w);
                assert_true(result.n == 1 && result.resolved);
                assert_int_equal(strlen(result.text), MIN(size + 3, sizeof(result.text) - 1));
                assert_int_equal(result.index, 7);
                assert_int_equal(tree.n_reads, 0);
        }
}

/* Names that would leave the folder, or have an effect in a file of variables. */
static void an_answer_with_an_invalid_name_gives_no_content(void **state) {
        static const char *const names[] = { "",     "/",   "..",
                                             "a/..", "./a", "/a",
                                             "a//b", "a/",  "../../etc/passwd" };

        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_writer_ Writer w = {};
                Result result;
                uint32_t number;

                quiet_peer_pass(h, 1000);
                number = begin_call("a.service", 1, &result);
                answer_with(INPUTS_RESOLVED, 7, names[i], &w);
                says_part(number, w.bytes, w.size);
                assert_true(result.n == 1 && !result.resolved);
        }
}

static void an_answer_that_is_cut_older_or_forged_gives_no_content(void **state) {
        _cleanup_writer_ Writer w = {};
        uint32_t number;
        Result result;

        answer_with(INPUTS_RESOLVED, 7, "a", &w);
        for (size_t size = 1; size < w.size; size++) {
                number = begin_call("a.service", 1, &result);
                says_part(number, w.bytes, size);
                assert_true(result.n == 1 && !result.resolved);
                quiet_peer_pass(h, 1000);
        }
        /* Older than what the host has seen. */
        number = begin_call("a.service", 8, &result);
        says_part(number, w.bytes, w.size);
        assert_true(result.n == 1 && !result.resolved);
        quiet_peer_pass(h, 1000);
        /* More than there can be. */
        number = begin_call("a.service", 1, &result);
        for (size_t size = 0; size < CONTENT_BYTES_MAX; size += INPUTS_PART_MAX) {
                assert_int_equal(result.n, 0);
                says_part(number, large, INPUTS_PART_MAX);
        }
        assert_true(result.n == 1 && !result.resolved);
        quiet_peer_pass(h, 1000);
        number = begin_call("a.service", 1, &result);
        says_part(number, large, INPUTS_PART_MAX + 1);
        assert_true(result.n == 1 && !result.resolved);
        quiet_peer_pass(h, 1000);
        /* Of another call. */
        number = begin_call("a.service", 1, &result);
        says_part(number + 1, w.bytes, w.size);
        assert_int_equal(result.n, 0);
        says_part(number, w.bytes, w.size);
        assert_true(result.n == 1 && result.resolved);
        says_part(number, w.bytes, w.size);
        assert_int_equal(result.n, 1);
}

static void a_replica_without_the_key_is_asked_again_after_five_seconds(void **state) {
        Result result;
        uint32_t number = begin_call("a.service", 1, &result);

        says_status(number, INPUTS_NO_KEY);
        assert_true(result.n == 1 && !result.resolved);
        quiet_peer_pass(h, 4900);
        assert_not_now("a.service");
        quiet_peer_pass(h, 100);
        number = begin_call("a.service", 1, &result);
        says_status(number, INPUTS_BEHIND);
        assert_true(result.n == 1 && !result.resolved);
        (void) begin_call("a.service", 1, &result);
}

static void the_end_of_a_session_and_a_silent_replica_end_the_call(void **state) {
        Result result;

        (void) begin_call("a.service", 1, &result);
        quiet_peer_pass(h, 4900);
        assert_int_equal(result.n, 0);
        quiet_peer_pass(h, 200);
        assert_true(result.n == 1 && !result.resolved);

        quiet_peer_pass(h, 1000);
        (void) begin_call("a.service", 1, &result);
        quiet_peer_part(h);
        quiet_peer_run(h);
        assert_true(result.n == 1 && !result.resolved);
        assert_not_now("a.service");
        assert_int_equal(take_request(&h->asked, "a.service", 1), 0);
}

static void each_part_may_take_five_seconds(void **state) {
        ContentItem file = { "x", large, sizeof(large) };
        Resolved resolved = { .index = 7, .content = { .files = &file, .n_files = 1 } };
        _cleanup_writer_ Writer w = {};
        size_t at = 0;
        uint32_t number;
        Result result;

        inputs_answer_write(INPUTS_RESOLVED, &resolved, &w);
        number = begin_call("a.service", 1, &result);
        for (; w.size - at >= INPUTS_PART_MAX; at += INPUTS_PART_MAX) {
                quiet_peer_pass(h, 3000);
                says_part(number, w.bytes + at, INPUTS_PART_MAX);
        }
        says_part(number, w.bytes + at, w.size - at);
        assert_true(result.n == 1 && result.resolved);
        assert_int_equal(result.n_large, 1);
}

static void a_call_that_is_cancelled_is_not_answered(void **state) {
        Result result, again;
        uint32_t number = begin_call("a.service", 1, &result);

        resolver_cancel(resolver, "a.service");
        says_status(number, INPUTS_RESOLVED);
        assert_int_equal(result.n, 0);
        number = begin_call("a.service", 1, &again);
        says_status(number, INPUTS_RESOLVED);
        assert_true(result.n == 0 && again.n == 1);
}

#define replica(test)  cmocka_unit_test_setup_teardown(test, replica_setup, teardown)
#define attached(test) cmocka_unit_test_setup_teardown(test, attached_setup, teardown)

int main(void) {
        const struct CMUnitTest tests[] = {
                replica(a_host_gets_the_content_of_a_unit_that_is_assigned_to_it),
                replica(a_host_gets_no_content_of_a_unit_of_another_one),
                replica(a_host_gets_no_content_of_a_unit_that_is_to_stop),
                replica(a_host_that_was_removed_gets_no_content),
                replica(the_text_of_the_assignment_decides_what_a_host_gets),
                replica(a_text_that_cannot_be_read_gives_no_content),
                replica(a_replica_says_that_it_is_behind_or_has_no_key),
                replica(a_host_gets_contents_at_a_limited_rate),
                replica(a_large_content_travels_in_parts),
                replica(without_budget_one_request_of_a_turn_is_answered),
                replica(a_request_that_is_cut_or_too_long_is_dropped),
                replica(a_host_with_a_replica_reads_its_own_tree),
                attached(an_attached_host_gets_the_content_in_parts),
                attached(an_answer_with_an_invalid_name_gives_no_content),
                attached(an_answer_that_is_cut_older_or_forged_gives_no_content),
                attached(a_replica_without_the_key_is_asked_again_after_five_seconds),
                attached(the_end_of_a_session_and_a_silent_replica_end_the_call),
                attached(each_part_may_take_five_seconds),
                attached(a_call_that_is_cancelled_is_not_answered),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
