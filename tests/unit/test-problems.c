/* The table of problems: each row of it, the order of what is found, and searches in slices. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "fleetd/problems/daemon.h"
#include "tests/lib/plans.h"
#include "units/json.h"

enum { NOW_MS = 10000000, KEYS_MAX = 8 };
#define WALL_MS UINT64_C(1700000000000) /* 22:13:20 */

/* A cluster of A, B and C, and what is found there: "KIND NAME: DESCRIPTION [COMMAND]", a line for each.
 * a.service runs on A. Keys: "PATH VALUE" below /_fleet/, in which @A is the ID of A. */
typedef struct Found {
        const char *keys[KEYS_MAX], *finds;
        unsigned voters;     /* A, B, C, or fewer, have a replica and vote; A always answers */
        const char *silent;  /* names of those that do not answer */
        const char *standby; /* name of the machine that is one, and answers */
        bool leaderless, removed;
        bool majority; /* one more voter, which answers */
        uint64_t stale_ms;
        const char *replica, *rejection;
        uint64_t loop; /* restarts of a.service on A in the history */
} Found;

static void append_with_ids(Text *t, const char *s) {
        char id[MACHINE_ID_SIZE];

        for (; *s; s++)
                if (*s == '@')
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

static void put_members(ClusterView *p, ProblemSearch *s, const Found *f) {
        for (size_t i = 0; i < f->voters + (f->standby ? 1 : 0); i++) {
                KvMember *m = &s->state.members[s->state.n_members++];
                char machine[] = { (char) ('A' + i), 0 }, key[128];

                *m = (KvMember) { .raft_id = i + 1,
                                  .role = i < f->voters ? KV_MEMBER_VOTER : KV_MEMBER_STANDBY };
                m->reachable = !f->silent || !strchr(f->silent, machine[0]);
                snprintf(m->address, sizeof(m->address), "10.0.0.%zu:2380", i + 1);
                snprintf(key, sizeof(key), "cluster/member/@%s {\"peer\":\"%s\",\"raftId\":%zu}", machine,
                         m->address, i + 1);
                put(p, key);
                s->state.n_voters += i < f->voters;
                s->state.n_voters_reachable += i < f->voters && m->reachable;
        }
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

static ProblemSearch search_new(const ClusterView *p) {
        char *id = malloc(MACHINE_ID_SIZE);

        assert_non_null(id);
        return (ProblemSearch) { .cluster = &p->cluster,
                                 .self = cluster_view_id(id, "A"),
                                 .name = "A",
                                 .wall_ms = WALL_MS,
                                 .brake_ms = 30000,
                                 .state = { .leader_id = 1, .level = 9, .level_max = 9 } };
}

static void search_done(ProblemSearch *s) {
        free((char *) s->self);
        problems_done(s);
}

static void check(const Found *f) {
        ClusterView p = view_new();
        ProblemSearch s = search_new(&p);
        _cleanup_text_ Text got = {};

        put_members(&p, &s, f);
        for (size_t i = 0; i < KEYS_MAX && f->keys[i]; i++)
                put(&p, f->keys[i]);
        if (f->leaderless)
                s.state.leader_id = 0;
        s.state.removed = f->removed;
        s.state.n_voters += f->majority;
        s.state.n_voters_reachable += f->majority;
        s.state.stale_ms = f->stale_ms;
        text_append(&s.replica, f->replica ?: "");
        text_append(&s.rejection, f->rejection ?: "");
        if (f->loop > 0) {
                s.loops = NEW0(ProblemLoop, 1);
                s.n_loops = 1;
                s.loops->count = f->loop;
                s.loops->first_ms = WALL_MS - 3600000;
                s.loops->last_ms = WALL_MS - 2000;
                snprintf(s.loops->event.unit, sizeof(s.loops->event.unit), "a.service");
                cluster_view_id(s.loops->event.machine, "A");
        }
        assert_int_equal(problems_search(&s, SIZE_MAX, SIZE_MAX), 0);
        append_found(&got, &s);
        assert_string_equal(text_chars(&got), f->finds);
        search_done(&s);
        cluster_view_free(&p);
}

#define LOST(name, since)                                                                     \
        "machine/@" name                                                                      \
        "/presence {\"reason\":\"no message from its fleetd or its kernel\",\"since\":" since \
        ",\"state\":\"lost\"}"
#define STATE(more) \
        "state/a.service/@A {\"load\":\"loaded\"," more "\"sub\":\"dead\",\"since\":1699999880000}"
#define BY_HAND STATE("\"active\":\"inactive\",\"reason\":\"stopped by hand\",")
#define WARN(kind, more) \
        "machine/@B/problem/x.service {\"kind\":\"" kind "\",\"text\":\"x.service: bad\\nmore\"" more "}"
#define MOVED_AWAY "machine/@A/unit/a.service ", "machine/@B/unit/a.service {\"order\":\"run\",\"unit\":7}"

static void this_host(void **state) {
        static const Found all[] = {
                { .finds = "" },
                { .finds = "replica A: its disk is full [cluster]\n", .replica = "its disk is full" },
                { .finds = "no-leader cluster: no leader: other reason [cluster]\n",
                  .leaderless = true,
                  .replica = "other reason" },
                { .finds = "no-leader cluster: no leader for 1 min: 1 of 1 voters reachable; reads still "
                           "work [cluster]\n",
                  .leaderless = true,
                  .voters = 1,
                  .stale_ms = 61999,
                  .replica = "no leader: 1 of 1 voters reachable; reads still work" },
                { .finds = "removed cluster: removed: join again\n",
                  .leaderless = true,
                  .removed = true,
                  .voters = 2,
                  .silent = "B",
                  .replica = "removed: join again" },
                { .finds = "rejected cluster: no session to 10.0.0.9:1: a cluster of its own\n",
                  .rejection = "10.0.0.9:1: a cluster of its own" },
        };

        for (size_t i = 0; i < ELEMENTS(all); i++)
                check(&all[i]);
}

static void voters(void **state) {
        static const Found all[] = {
                { .voters = 3,
                  .silent = "C",
                  .finds = "voter C: voter unreachable; 2 of 3 voters left, none may be lost: if that lasts, "
                           "start it, or give a new host its address 10.0.0.3:2380 or another one [help "
                           "replace]\n" },
                { { "machine/@C/presence {\"since\":9940000,\"state\":\"away\"}" },
                  .voters = 3,
                  .silent = "C",
                  .finds = "voter C: voter unreachable since 22:12 (away); 2 of 3 voters left, none may be "
                           "lost: start fleetd on it [help maintain]\n" },
                { { LOST("B", "9990000") },
                  .voters = 2,
                  .silent = "B",
                  .finds = "voter B: voter unreachable since 22:13; 1 of 2 voters left, no majority: start "
                           "it, or give a new host its address 10.0.0.2:2380 [help replace]\n" },
                { { "machine/@A/presence "
                    "{\"since\":9970000,\"away\":9370000,\"state\":\"lost\",\"reason\":\"its fleetd was "
                    "stopped, and has been away for too long\"}" },
                  .voters = 3,
                  .silent = "A",
                  .finds = "voter A: voter unreachable since 22:02 (its fleetd was stopped; its units may "
                           "run there, too); 2 of 3 voters left, none may be lost: start fleetd on it, or "
                           "give a new host its address 10.0.0.1:2380 or another one [help replace]\nwaiting "
                           "a.service: waiting: A is lost; moving to B [why a.service]\n" },
                { { "machine/@C/presence {\"since\":9000000,\"state\":\"left\"}",
                    "machine/@C/maintenance {\"mode\":\"drained\",\"since\":1}" },
                  .voters = 3,
                  .silent = "C",
                  .finds = "voter C: voter unreachable since 21:56 (shut down); 2 of 3 voters left, none may "
                           "be lost: start it [help maintain]\n" },
                { { "cluster/member/@B " },
                  .voters = 3,
                  .silent = "B",
                  .finds = "voter 10.0.0.2:2380: voter unreachable; 2 of 3 voters left, none may be lost: it "
                           "was removed, and leaves the voters within seconds\n" },
                { { LOST("A", "9900000") },
                  .voters = 2,
                  .silent = "A",
                  .standby = "C",
                  .finds = "voter A: voter unreachable since 22:11; 1 of 2 voters left, no majority: start "
                           "it, or give a new host its address 10.0.0.1:2380 [help replace]\nwaiting "
                           "a.service: waiting: A is lost; moving to B [why a.service]\n" },
                { { LOST("B", "9900000") },
                  .voters = 2,
                  .silent = "B",
                  .standby = "C",
                  .majority = true,
                  .finds = "voter B: voter unreachable since 22:11; 2 of 3 voters left, none may be lost: "
                           "start it; C votes in its place ten minutes after the loss, or once it is removed "
                           "[remove --force B]\n" },
                { { LOST("B", "9900000"), "cluster/member/@C {\"peer\":\"10.0.0.2:2380\",\"raftId\":3}" },
                  .voters = 2,
                  .silent = "B",
                  .standby = "C",
                  .majority = true,
                  .finds = "voter B: voter unreachable since 22:11; 2 of 3 voters left, none may be lost: C "
                           "has its address, and votes in its place within seconds [help "
                           "replace]\n" },
        };

        for (size_t i = 0; i < ELEMENTS(all); i++)
                check(&all[i]);
}

static void machines(void **state) {
        static const Found all[] = {
                { { LOST("B", "9940000") },
                  .finds = "lost B: lost since 22:12: its units move to other machines [events "
                           "--machine=B]\n" },
                { { "machine/@B/presence {\"since\":9940000,\"state\":\"away\"}" },
                  .finds = "away B: away since 22:12: no answer; its units stay as last reported [events "
                           "--machine=B]\n" },
                { { LOST("B", "1000"), LOST("C", "1000") },
                  .finds = "gone B: lost for more than an hour; if it does not return, remove it; so are C "
                           "[remove B]\n" },
                { { "machine/@B/presence {\"reason\":\"its replica: its disk is "
                    "full\",\"since\":1,\"state\":\"up\"}" },
                  .finds = "replica B: its replica: its disk is full\n" },
                { { "machine/@B/presence {\"reason\":\"its clock: 31 s "
                    "ahead\",\"since\":1,\"state\":\"up\"}" },
                  .finds = "clock B: its clock: 31 s ahead; on that host: timedatectl\n" },
                { { "machine/@B/facts {\"name\":\"A\",\"checks\":\"cannot run checks\"}" },
                  .finds = "checks A (bbbbbbbb): cannot run checks\n" },
                { { "machine/@B/presence {\"since\":9940000,\"state\":\"lost\"}",
                    "machine/@B/facts {\"name\":\"A\"}" },
                  .finds = "lost A (bbbbbbbb): lost since 22:12: its units move to other machines [events "
                           "--machine=bbbbbbbb]\n" },
                { { "cluster/adopting 9000000", LOST("B", "9940000"), "machine/@A/reported 0000000000000000",
                    "machine/@B/reported 0000000000000000" },
                  .finds = "adoption cluster: recovered or restored: no unit is started or moved until all "
                           "hosts have reported their units; missing: B [cluster]\n" },
        };

        for (size_t i = 0; i < ELEMENTS(all); i++)
                check(&all[i]);
}

static void units(void **state) {
        static const Found all[] = {
                { { STATE("\"active\":\"failed\",\"reason\":\"exit status 1\",") },
                  .finds = "failed a.service: failed on A 2 min ago: exit status 1 [journal a.service]\n" },
                { { STATE("\"active\":\"failed\","), MOVED_AWAY }, .finds = "" },
                { { "state/a.service/@A "
                    "{\"load\":\"loaded\",\"active\":\"activating\",\"sub\":\"auto-restart\",\"reason\":"
                    "\"exit status 1\"}" },
                  .finds = "restarting a.service: failed on A, and is restarted: exit status 1 [journal "
                           "a.service]\n" },
                { { STATE("\"active\":\"active\",\"health\":\"failing\",\"why\":\"no answer\",") },
                  .finds = "unhealthy a.service: is active on A, and unhealthy: no answer [journal "
                           "a.service]\n" },
                { { BY_HAND }, .finds = "stopped a.service: stopped by hand on A [restart a.service]\n" },
                { { STATE("\"active\":\"inactive\",\"reason\":\"stopped because of b.service; started "
                          "again\",") },
                  .finds = "stopped a.service: is inactive on A: stopped because of b.service; started again "
                           "[why a.service]\n" },
                { { STATE("\"active\":\"inactive\",\"job\":\"refused\",\"reason\":\"Unit b.mount not "
                          "found\",") },
                  .finds = "start a.service: systemd refused to start it on A: Unit b.mount not found [why "
                           "a.service]\n" },
                { { "state/a.service/@A {\"load\":\"masked\",\"active\":\"inactive\",\"sub\":\"dead\"}" },
                  .finds = "load a.service: systemd cannot load it on A (masked) [status a.service]\n" },
                { { "state/z.service/@B {\"load\":\"loaded\",\"active\":\"active\",\"sub\":\"running\"}" },
                  .finds = "absent z.service: runs on B, and is no unit of the cluster [why z.service]\n" },
                { .loop = 9,
                  .finds = "loop a.service: restarts in a loop on A: at least 9 times since 21:13, last 2 s "
                           "ago [journal a.service]\n" },
                { { "machine/@A/unit/a.service ", "state/a.service/@A " },
                  .finds = "waiting a.service: not placed: about to be assigned: A had the fewest units (0) "
                           "of 3 machines that qualify [why a.service]\n" },
                { { WARN("refused", "") },
                  .finds = "refused x.service: file refused on B: bad [directory]\n" },
                { { WARN("taken", "") }, .finds = "taken x.service: file taken on B: bad [directory]\n" },
                { { WARN("held", "") }, .finds = "held x.service: file held on B: bad [directory]\n" },
                { { WARN("held", ",\"confirmed\":true") }, .finds = "" },
                { { WARN("refused", ",\"warning\":true") },
                  .finds = "warning x.service: file on B: bad [directory]\n" },
                { { WARN("reverted", "") },
                  .finds = "directory x.service: file reverted on B: bad [directory]\n" },
                { { WARN("refused", ",\"warning\":true,\"unowned\":true") }, .finds = "" },
        };

        for (size_t i = 0; i < ELEMENTS(all); i++)
                check(&all[i]);
}

#define PAUSED                                                                                             \
        "rollout/a.service {\"state\":\"paused\",\"to\":2,\"toHash\":\"\",\"why\":\"a.service on A: exit " \
        "status 1\",\"failed\":[{\"machine\":\"@A\",\"unit\":\"a.service\",\"why\":\"exit status 1\"}]}"

static void requests(void **state) {
        static const Found all[] = {
                { { "move/a.service {\"since\":1699999000000,\"to\":\"@B\"}",
                    "machine/@B/maintenance {\"mode\":\"cordoned\",\"since\":1}" },
                  .finds = "move a.service: its move to B waits: no other machine qualifies (B is cordoned; "
                           "C is not the machine to which the unit moves) [why a.service]\n" },
                { { "machine/@A/maintenance {\"mode\":\"draining\",\"for\":\"leave\",\"since\":1}",
                    "machine/@B/maintenance {\"mode\":\"cordoned\",\"since\":1}",
                    "machine/@C/maintenance {\"mode\":\"cordoned\",\"since\":1}" },
                  .finds = "leave A: its leave is blocked: a.service cannot move; unload it, or on that "
                           "host: fleetctl leave --cancel [why a.service]\n" },
                { { "machine/@A/maintenance {\"mode\":\"draining\",\"deadline\":20000000,\"since\":1}",
                    "machine/@B/maintenance {\"mode\":\"cordoned\",\"since\":1}",
                    "machine/@C/maintenance {\"mode\":\"cordoned\",\"since\":1}" },
                  .finds = "drain A: draining; 1 unit waits: a.service: no other machine qualifies (B and C "
                           "are cordoned) [drain A]\n" },
                { { LOST("A", "9999000"), LOST("B", "9999000") },
                  .finds = "brake cluster: units are held back until 22:13:49: 2 of 3 machines were lost "
                           "within a minute (BrakeSec=)\nlost A: lost since 22:13: its units are held back "
                           "[events --machine=A]\nlost B: lost since 22:13: its units are held back [events "
                           "--machine=B]\n" },
                { { "machine/@A/maintenance {\"mode\":\"draining\",\"since\":1}",
                    "machine/@B/maintenance {\"mode\":\"cordoned\",\"since\":1}",
                    "machine/@C/maintenance {\"mode\":\"cordoned\",\"since\":1}" },
                  .finds = "drain A: draining; 1 unit waits: a.service: no other machine qualifies (B and C "
                           "are cordoned); to stop it [drain --deadline=5min A]\n" },
                { { PAUSED, STATE("\"active\":\"failed\",\"reason\":\"exit status 1\","),
                    "machine/@B/problem/a.service {\"kind\":\"paused\",\"text\":\"x\"}" },
                  .finds = "rollout a.service: the rollout of revision 2 is paused: a.service on A: exit "
                           "status 1; its file is on B [rollout a.service]\n" },
                { { "rollout/a.service {\"state\":\"held\",\"to\":2,\"toHash\":\"\",\"progress\":9000000}" },
                  .finds = "rollout a.service: the rollout of revision 2 is held for 16 min; to return: "
                           "fleetctl revert a.service [rollout promote a.service]\n" },
        };

        for (size_t i = 0; i < ELEMENTS(all); i++)
                check(&all[i]);
}

/* -- Searches in slices, and figures -- */

static void slices_find_what_one_search_finds(void **state) {
        ClusterView p = view_new();
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
        put(&p, LOST("C", "9940000"));
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
        cluster_view_free(&p);
}

static bool sees_nothing(void *userdata, Right right) {
        return right != RIGHT_UNITS_SEE;
}

static void a_row_needs_its_right(void **state) {
        ClusterView p = view_new();
        ProblemSearch s = search_new(&p);

        put(&p, LOST("C", "9940000"));
        s.may = sees_nothing;
        assert_int_equal(problems_search(&s, SIZE_MAX, SIZE_MAX), 0);
        assert_int_equal(s.n, 0);
        search_done(&s);
        cluster_view_free(&p);
}

/* Without a replica, a host knows its own problems only. */
static void an_attached_host_has_those_of_itself(void **state) {
        ClusterView p = view_new();
        ProblemSearch s = search_new(&p);

        put(&p, LOST("C", "9940000"));
        s.state.attached = true;
        s.state.leader_id = 0;
        assert_int_equal(problems_search(&s, SIZE_MAX, SIZE_MAX), 0);
        assert_int_equal(s.n, 1);
        search_done(&s);
        cluster_view_free(&p);
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
                cmocka_unit_test(this_host),
                cmocka_unit_test(voters),
                cmocka_unit_test(machines),
                cmocka_unit_test(units),
                cmocka_unit_test(requests),
                cmocka_unit_test(slices_find_what_one_search_finds),
                cmocka_unit_test(a_row_needs_its_right),
                cmocka_unit_test(an_attached_host_has_those_of_itself),
                cmocka_unit_test(each_row_is_complete),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
