/* The table of problems: each row of it, the order of what is found, and searches in slices. */
#include "tests/lib/test.h"
#include "fleetd/problems/daemon.h"
#include "tests/lib/plans.h"
#include "units/json.h"

enum { NOW_MS = 10000000 };
#define LOST_C  "machine/@C/presence {\"since\":9940000,\"state\":\"lost\"}"
#define WALL_MS UINT64_C(1700000000000) /* 22:13:20 */

static void append_with_ids(Text *t, const char *s) {
        char id[MACHINE_ID_SIZE];

        for (; *s; s++)
                if (*s == '@' && s[1] >= 'A' && s[1] <= 'Z')
                        text_append(t, cluster_view_id(id, (char[]) { *++s, 0 }));
                else
                        text_append_char(t, *s);
}

static void put(ClusterView *p, const char *key) {
        _cleanup_text_ Text t = {};
        char *value;

        text_append(&t, "/_fleet/");
        append_with_ids(&t, key);
        value = strchr(t.chars, ' ');
        assert_non_null(value);
        *value++ = 0;
        if (*value)
                cluster_view_put(p, t.chars, value);
        else
                cluster_view_remove(p, t.chars);
}

static ClusterView view_new(void) {
        ClusterView p = { .cluster.now_ms = 1000 };

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_machine(&p, "C", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        p.cluster.now_ms = NOW_MS;
        return p;
}

static void append_found(Text *t, ProblemSearch *s) {
        JsonValue *list = NULL;
        _cleanup_text_ Text json = {};

        text_printf(&json, "[%s]", text_chars(&s->list));
        assert_int_equal(json_value_parse(json.chars, json.size, &list, NULL), 0);
        JSON_EACH(p, list) {
                const char *command = json_value_string(json_value_member(p, "command"));

                assert_non_null(json_value_string(json_value_member(p, "severity")));
                text_printf(t, "%s %s: %s%s%s%s\n", json_value_string(json_value_member(p, "kind")),
                            json_value_string(json_value_member(p, "name")),
                            json_value_string(json_value_member(p, "description")), command ? " [" : "",
                            command ? command + strlen("fleetctl ") : "", command ? "]" : "");
        }
        json_value_free(list);
}

extern const Component reboot_component, rollout_component, services_component, inputs_component;

static ProblemSearch search_new(const ClusterView *p) {
        static const Component *const components[] = { &reboot_component, &rollout_component,
                                                       &services_component, &inputs_component, NULL };
        char *id = malloc(MACHINE_ID_SIZE);

        assert_non_null(id);
        return (ProblemSearch) { .cluster = &p->cluster,
                                 .components = components,
                                 .self = cluster_view_id(id, "A"),
                                 .name = "A",
                                 .wall_ms = WALL_MS,
                                 .brake_ms = 30000,
                                 .state = {
                                         .leader_id = 1, .level = 9, .level_max = 9, .raft_index = 5000 } };
}

static void search_done(ProblemSearch *s) {
        free((char *) s->self);
        problems_done(s);
}

/* Set what a line "+ NAME=VALUE" states; "voters" is before "silent" and "standby". */
static void set(ClusterView *p, ProblemSearch *s, const char *word) {
        const char *value = word + strcspn(word, "= ") + (word[strcspn(word, "= ")] != 0);
        size_t n = (size_t) strtoul(value, NULL, 10);

        if (starts_with(word, "voters=") || starts_with(word, "standby="))
                for (size_t last = *value < 'A' ? n : 1; last > 0; last--) {
                        KvMember *m = &s->state.members[s->state.n_members];
                        char machine = *value < 'A' ? (char) ('A' + s->state.n_members) : *value, key[128];
                        uint64_t id = ++s->state.n_members;

                        *m = (KvMember) { .raft_id = id, .reachable = true };
                        m->role = *value < 'A' ? KV_MEMBER_VOTER : KV_MEMBER_STANDBY;
                        snprintf(m->address, sizeof(m->address), "10.0.0.%d:2380", (int) id);
                        snprintf(key, sizeof(key), "cluster/member/@%c {\"peer\":\"%s\",\"raftId\":%d}",
                                 machine, m->address, (int) id);
                        put(p, key);
                        s->state.n_voters += m->role == KV_MEMBER_VOTER;
                        s->state.n_voters_reachable += m->role == KV_MEMBER_VOTER;
                }
        else if (starts_with(word, "silent=")) {
                s->state.members[*value - 'A'].reachable = false;
                s->state.n_voters_reachable--;
        } else if (starts_with(word, "majority")) {
                s->state.n_voters++;
                s->state.n_voters_reachable++;
        } else if (starts_with(word, "replica "))
                text_append(&s->replica, value);
        else if (starts_with(word, "rejection "))
                text_append(&s->rejection, value);
        else if (starts_with(word, "leaderless"))
                s->state.leader_id = 0;
        else if (starts_with(word, "removed"))
                s->state.removed = true;
        else if (starts_with(word, "stale="))
                s->state.stale_ms = n;
        else if (starts_with(word, "level="))
                s->state.level = (unsigned) n;
        else if (starts_with(word, "services="))
                for (size_t i = 0; i < n; i++) {
                        char unit[32];

                        snprintf(unit, sizeof(unit), "shop@%zu.service", i);
                        cluster_view_unit(p, unit, "Service=shop", TARGET_LAUNCHED);
                        cluster_view_assign(p, "A", unit, ASSIGNMENT_RUN);
                        cluster_view_state(p, "A", unit, "active");
                }
        else if (starts_with(word, "later"))
                p->cluster.now_ms += 20000;
        else {
                assert_true(starts_with(word, "loop="));
                s->loops = NEW0(ProblemLoop, 1);
                s->n_loops = 1;
                *s->loops = (ProblemLoop) { .count = n,
                                            .first_ms = WALL_MS - 3600000,
                                            .last_ms = WALL_MS - 2000,
                                            .event.unit = "a.service" };
                cluster_view_id(s->loops->event.machine, "A");
        }
}

/* Each case of tests/unit/problems: a cluster of A, B and C, where a.service runs on A. "+": what the host
 * knows; ">": a key below /_fleet/, in which @A is the ID of A, and its value, or none; "|": what is found,
 * as "KIND NAME: DESCRIPTION [COMMAND]". */
static void each_case_is_found(void **state) {
        _cleanup_free_ char *path = NULL, *line = NULL;
        ClusterView p = view_new();
        ProblemSearch s = search_new(&p);
        _cleanup_text_ Text got = {}, wanted = {}, title = {};
        size_t capacity = 0, n = 0, n_wrong = 0;
        FILE *f;

        assert_true(asprintf(&path, "%s/tests/unit/problems", getenv("srcdir") ?: ".") > 0);
        f = fopen(path, "r");
        assert_non_null(f);
        for (bool more = true; more;) {
                more = getline(&line, &capacity, f) > 0;
                if (more)
                        line[strcspn(line, "\n")] = 0;
                if (more && *line == '>')
                        put(&p, line + 2);
                else if (more && *line == '|')
                        text_printf(&wanted, "%s\n", line + 2);
                else if (more && *line == '+')
                        for (char *word = line + 2, *next; word; word = next) {
                                next = strchr(word, ' ');
                                if (starts_with(word, "re") && !starts_with(word, "removed"))
                                        next = NULL;
                                set(&p, &s, word);
                                next = next ? next + 1 : NULL;
                        }
                else {
                        assert_int_equal(problems_search(&s, SIZE_MAX, SIZE_MAX), 0);
                        append_found(&got, &s);
                        if (title.size > 0 && !streq(text_chars(&got), text_chars(&wanted))) {
                                print_error("%s\n%s-- and not --\n%s", title.chars, text_chars(&got),
                                            text_chars(&wanted));
                                n_wrong++;
                        }
                        n++;
                        search_done(&s);
                        cluster_view_free(&p);
                        text_clear(&got);
                        text_clear(&wanted);
                        text_clear(&title);
                        text_append(&title, line);
                        p = view_new();
                        s = search_new(&p);
                }
        }
        fclose(f);
        search_done(&s);
        cluster_view_free(&p);
        assert_true(n > 60);
        assert_int_equal(n_wrong, 0);
}

/* -- Searches in slices, and figures -- */

static void slices_find_what_one_search_finds(void **state) {
        _cleanup_cluster_view_ ClusterView p = view_new();
        ProblemSearch whole = search_new(&p), counted = search_new(&p);
        size_t counts[PROBLEM_ROWS_MAX] = {}, n = 0;
        _cleanup_text_ Text all = {}, some = {};
        int more = 1;

        for (int i = 0; i < 30; i++) {
                char name[32], key[128];

                snprintf(name, sizeof(name), "u%02d.service", i);
                cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
                snprintf(key, sizeof(key),
                         "state/%s/@B {\"load\":\"loaded\",\"active\":\"failed\",\"sub\":\"x\"}", name);
                put(&p, key);
        }
        put(&p, LOST_C);
        assert_int_equal(problems_search(&whole, SIZE_MAX, SIZE_MAX), 0);
        append_found(&all, &whole);
        assert_int_equal(whole.n, 61);
        counted.counts = counts;
        assert_int_equal(problems_search(&counted, SIZE_MAX, SIZE_MAX), 0);
        for (size_t i = 0; i < PROBLEM_ROWS_MAX; i++)
                n += counts[i];
        assert_int_equal(n, whole.n);
        for (size_t row = 0, slices = 0; more > 0; slices++) {
                static char after[UNIT_NAME_MAX + 1];
                ProblemSearch s = search_new(&p);

                assert_true(slices < 100);
                s.row = row;
                memcpy(s.after, after, sizeof(after));
                more = problems_search(&s, slices % 2 ? 4 : SIZE_MAX, 7);
                assert_true(more >= 0);
                append_found(&some, &s);
                row = s.row;
                memcpy(after, s.after, sizeof(after));
                search_done(&s);
        }
        assert_string_equal(some.chars, all.chars);
        search_done(&whole);
        search_done(&counted);
}

static bool sees_nothing(void *userdata, Right right) {
        return right != RIGHT_UNITS_SEE;
}

static void a_row_needs_its_right(void **state) {
        _cleanup_cluster_view_ ClusterView p = view_new();
        ProblemSearch s = search_new(&p);

        put(&p, LOST_C);
        s.may = sees_nothing;
        assert_int_equal(problems_search(&s, SIZE_MAX, SIZE_MAX), 0);
        assert_int_equal(s.n, 0);
        search_done(&s);
}

/* Without a replica, a host knows its own problems only. */
static void an_attached_host_has_those_of_itself(void **state) {
        _cleanup_cluster_view_ ClusterView p = view_new();
        ProblemSearch s = search_new(&p);

        put(&p, LOST_C);
        s.state.attached = true;
        s.state.leader_id = 0;
        assert_int_equal(problems_search(&s, SIZE_MAX, SIZE_MAX), 0);
        assert_int_equal(s.n, 1);
        search_done(&s);
}

static void each_row_is_complete(void **state) {
        const ProblemRow *row;
        size_t n = 0;

        for (; (row = problems_row((const Component *const[]) { &problems_component, NULL }, n)); n++) {
                assert_non_null(row->find);
                assert_int_not_equal(row->right, RIGHT_NONE);
                assert_true(row->severity < _SEVERITY_MAX);
        }
        assert_true(n > 30 && n < PROBLEM_ROWS_MAX);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_case_is_found),
                cmocka_unit_test(slices_find_what_one_search_finds),
                cmocka_unit_test(a_row_needs_its_right),
                cmocka_unit_test(an_attached_host_has_those_of_itself),
                cmocka_unit_test(each_row_is_complete),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
