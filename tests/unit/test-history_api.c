/* The history on a real host: which changes of the registry add rows, and the answers of /fleet/v1/history.
 */
#include <sys/socket.h>
#include <sys/un.h>

#include "tests/lib/test.h"
#include "base/log.h"
#include "fleetd/api/api.h"
#include "fleetd/registry/history.h"
#include "tests/lib/host.h"
#include "tests/lib/scratch.h"
#include "tests/lib/store_inside.h"
#include "tests/lib/words_of.h"
#include "units/verdict_former.h"

static const char other[] = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
static const char text_a[] = "[Service]\nExecStart=/bin/sleep 1\n",
                  text_b[] = "[Service]\nExecStart=/bin/sleep 2\n",
                  text_c[] = "[Service]\nExecStart=/bin/sleep 3\n";

#define DROP_IN(value)        "\n\n# a@1.service.d/a.conf\n[Service]\nEnvironment=A=" value "\n"
#define FORMER_DROP_IN(value) "[Service]\nExecStart=/bin/sleep 1\n" DROP_IN(value)
#define OWN_DROP_IN(value)    "[Service]\nExecStart=/bin/sleep 3\n" DROP_IN(value)

enum { HOUR_MS = 3600 * 1000 };

typedef struct Fixture {
        Host *host;
        Api *api;
        char *socket, *answer;
        Text rows;
        size_t n_rows;
        uint64_t n_counted, last_index;
} Fixture;

static uint64_t wall_ms; /* the wall clock */

uint64_t __wrap_loop_wall_ms(const Loop *loop);
uint64_t __wrap_loop_wall_ms(const Loop *loop) {
        return wall_ms;
}

static uint64_t stale_ms; /* the time without a leader */

uint64_t __wrap_kv_stale_ms(const KvStore *store);
uint64_t __wrap_kv_stale_ms(const KvStore *store) {
        return stale_ms;
}

static void on_result(void *userdata, const KvResult *result) {
        assert_int_equal(result->status, KV_OK);
        *(bool *) userdata = true;
}

static void propose(Host *h, const KvCommand *cmd) {
        bool done = false;

        assert_int_equal(kv_propose(h->store, cmd, on_result, &done, NULL), 0);
        HOST_UNTIL(h, done);
}

static int low_setup(void **state) {
        Fixture *f = NEW0(Fixture, 1);
        Error err = {};

        wall_ms = 1700000000000;
        f->host = host_new(false);
        f->socket = scratch_path(f->host->scratch, "socket");
        assert_int_equal(api_new(&f->api, &f->host->components), 0);
        if (api_listen(f->api, API_SOCKET, f->socket, &err) < 0)
                fail_msg("%s", err.message);
        *state = f;
        return 0;
}

static int fixture_setup(void **state) {
        int r = low_setup(state);

        propose(((Fixture *) *state)->host,
                &(KvCommand) { .op = KV_RAISE, .internal = true, .limit = KV_LEVEL_HISTORY });
        return r;
}

static int fixture_teardown(void **state) {
        Fixture *f = *state;

        api_free(f->api);
        host_free(f->host);
        text_done(&f->rows);
        free(f->socket);
        free(f->answer);
        free(f);
        return 0;
}

/* -- Rows -- */

/* Append the reason, with HASH in place of the beginning of a hash in parentheses. */
static void append_reason(Fixture *f, const char *reason) {
        const char *begin = strchr(reason, '(');

        if (!begin || strspn(begin + 1, "0123456789abcdef") != 7 || begin[8] != ')')
                text_append(&f->rows, reason);
        else
                text_printf(&f->rows, "%.*s(HASH)%s", (int) (begin - reason), reason, begin + 9);
}

static int on_row(void *userdata, const KvHistoryRow *row) {
        HistoryEvent e;
        Fixture *f = userdata;

        assert_int_equal(history_decode(row->body, &e), 0);
        assert_true(row->index > f->last_index);
        f->last_index = row->index;
        f->n_rows++;
        f->n_counted += row->count;
        text_printf(&f->rows, "%s", history_kind_to_string((HistoryKind) e.kind));
        if (*e.unit)
                text_printf(&f->rows, " %s", e.unit);
        if (*e.machine)
                text_printf(&f->rows, " on %s", streq(e.machine, f->host->id) ? "self" : "other");
        if (*e.user)
                text_printf(&f->rows, " by %s", e.user);
        if (*e.reason)
                text_append(&f->rows, ": ");
        append_reason(f, e.reason);
        if (row->count > 1)
                text_printf(&f->rows, " (%llu)", (unsigned long long) row->count);
        text_append(&f->rows, "\n");
        return 1;
}

/* Return the rows since the previous call. */
static const char *rows(Fixture *f) {
        text_clear(&f->rows);
        f->n_rows = f->n_counted = 0;
        assert_int_equal(kv_local_history(f->host->store, f->last_index, false, on_row, f), 0);
        return f->rows.chars ?: "";
}

static void change(Fixture *f, UnitChange c) {
        assert_int_equal(
                host_wait(f->host, registry_change_units(f->host->registry, &c, 1, host_on_done, f->host)),
                KV_OK);
}

static void submit(Fixture *f, const char *name, const char *text, UnitChange c) {
        _cleanup_unit_ Unit *unit = NULL;

        assert_int_equal(unit_parse(name, text, strlen(text), &unit, NULL), 0);
        c.unit = unit;
        change(f, c);
}

/* -- Changes -- */

static void changes_of_units_name_their_users(void **state) {
        Fixture *f = *state;
        UnitChange launch = {
                .name = "a.service", .has_target = true, .target = TARGET_LAUNCHED, .user = "kim"
        };

        submit(f, "a.service", text_a,
               (UnitChange) { .has_target = true, .target = TARGET_LOADED, .user = "root" });
        submit(f, "a.service", text_b, (UnitChange) { .user = "root" });
        change(f, launch);
        submit(f, "b.service", text_a, (UnitChange) { .user = HISTORY_DIRECTORY });
        assert_string_equal(rows(f), "submitted a.service by root: loaded\n"
                                     "updated a.service by root\n"
                                     "target a.service by kim: launched\n"
                                     "submitted b.service on self by directory\n");
        /* Nothing changes. */
        change(f, launch);
        assert_string_equal(rows(f), "");

        change(f, (UnitChange) { .name = "a.service", .remove = true });
        assert_string_equal(rows(f), "destroyed a.service\n");
        /* A rejected change has no row. */
        assert_int_equal(host_wait(f->host, registry_change_units(f->host->registry, &launch, 1, host_on_done,
                                                                  f->host)),
                         KV_COMPARE_FAILED);
        assert_string_equal(rows(f), "");
}

static void a_return_to_a_former_text_names_its_revision(void **state) {
        Fixture *f = *state;

        host_raise(f->host, KV_LEVEL_REVISIONS);
        submit(f, "a.service", text_a,
               (UnitChange) { .has_target = true, .target = TARGET_LOADED, .user = "root" });
        submit(f, "a.service", text_b, (UnitChange) { .user = "root" });
        (void) rows(f);
        submit(f, "a.service", text_a, (UnitChange) { .user = "kim" });
        assert_string_equal(rows(f), "updated a.service by kim: return to revision 1 (HASH)\n");
        submit(f, "a.service", text_b, (UnitChange) { .user = "kim" });
        assert_string_equal(rows(f), "updated a.service by kim: return to revision 2 (HASH)\n");
}

static void different_texts_are_no_repetitions(void **state) {
        Fixture *f = *state;

        host_raise(f->host, KV_LEVEL_UPDATES);
        submit(f, "a@.service", text_a, (UnitChange) { .user = "root" });
        submit(f, "a@1.service", text_a, (UnitChange) { .user = "root" });
        (void) rows(f);
        submit(f, "a@.service", text_b, (UnitChange) { .user = "root" });
        submit(f, "a@.service", text_c, (UnitChange) { .user = "root" });
        assert_string_equal(rows(f), "updated a@.service by root: revision 2 (HASH)\n"
                                     "updated a@.service by root: revision 3 (HASH)\n");
        /* The instance follows, and has drop-ins of its own: the number is that of the template. */
        submit(f, "a@1.service", OWN_DROP_IN("1"), (UnitChange) { .user = "root" });
        submit(f, "a@1.service", OWN_DROP_IN("2"), (UnitChange) { .user = "root" });
        submit(f, "a@1.service", OWN_DROP_IN("1"), (UnitChange) { .user = "root" });
        assert_string_equal(rows(f), "updated a@1.service by root: revision 3 (HASH)\n"
                                     "updated a@1.service by root: revision 3 (HASH) (2)\n");
}

static void an_instance_that_returns_to_a_text_of_its_template_names_the_revision(void **state) {
        Fixture *f = *state;
        const Revisions *own;

        host_raise(f->host, KV_LEVEL_UPDATES);
        submit(f, "a@.service", text_a, (UnitChange) { .user = "root" });
        submit(f, "a@.service", text_c, (UnitChange) { .user = "root" });
        submit(f, "a@1.service", OWN_DROP_IN("1"), (UnitChange) { .user = "root" });
        (void) rows(f);
        submit(f, "a@1.service", FORMER_DROP_IN("1"), (UnitChange) { .user = "kim" });
        assert_string_equal(rows(f), "updated a@1.service by kim: return to revision 1 (HASH)\n");
        own = &cluster_unit(registry_cluster(f->host->registry), "a@1.service")->unit->revisions;
        assert_int_equal(own->wanted.how, REVISION_REVERTED);
        assert_int_equal(own->wanted.number, 1);
        assert_int_equal(own->n_former, 1);
        assert_int_equal(own->former[0].number, 2);

        /* Other drop-ins with the same text of the template are no return. */
        submit(f, "a@1.service", OWN_DROP_IN("1"), (UnitChange) { .user = "kim" });
        submit(f, "a@1.service", OWN_DROP_IN("2"), (UnitChange) { .user = "kim" });
        assert_string_equal(rows(f), "updated a@1.service by kim: return to revision 2 (HASH)\n"
                                     "updated a@1.service by kim: revision 2 (HASH)\n");
}

static void assign_by(Fixture *f, AssignmentKind kind, const char *reason, VerdictCode noted) {
        const Cluster *c = registry_cluster(f->host->registry);
        ClusterAssignment *known = cluster_assignment(c, f->host->id, "a.service");
        AssignmentChange o = { .unit = "a.service",
                               .kind = kind,
                               .noted = noted,
                               .unit_index = cluster_unit(c, "a.service")->index,
                               .expected_index = known ? known->index : 0 };
        KvState kv;

        kv_state(f->host->store, &kv);
        memcpy(o.machine, f->host->id, sizeof(o.machine));
        verdict_say(&o.why, VERDICT_SAID, reason);
        assert_int_equal(host_wait(f->host, registry_assign(f->host->registry, kv.term, &o, 1, NULL,
                                                            host_on_done, f->host)),
                         KV_OK);
}

static void assign(Fixture *f, AssignmentKind kind, const char *reason) {
        assign_by(f, kind, reason, VERDICT_NONE);
}

static void publish_at(Fixture *f, uint64_t since_ms, const char *active, const char *sub, const char *load,
                       const char *job, bool done, const char *reason) {
        StateChange s = { .unit = "a.service" };

        assert_int_equal(unit_state_init(&s.state, load, active, sub, NULL, since_ms, done), 0);
        assert_int_equal(unit_state_set_reason(&s.state, reason), 0);
        snprintf(s.state.job, sizeof(s.state.job), "%s", job);
        assert_int_equal(
                host_wait(f->host, registry_publish(f->host->registry, &s, 1, host_on_done, f->host)), KV_OK);
        unit_state_done(&s.state);
}

static void publish_with(Fixture *f, const char *active, const char *sub, const char *load, const char *job,
                         bool done, const char *reason) {
        publish_at(f, 1, active, sub, load, job, done, reason);
}

static void publish(Fixture *f, const char *active, const char *sub, const char *load, const char *job,
                    bool done) {
        publish_with(f, active, sub, load, job, done, "");
}

static void assignments_have_their_reasons(void **state) {
        Fixture *f = *state;
        StateChange s = { .unit = "a.service", .remove = true, .stopped = true };

        submit(f, "a.service", text_a, (UnitChange) {});
        (void) rows(f);
        assign(f, ASSIGNMENT_RUN, "self had the fewest units");
        assign(f, ASSIGNMENT_RUN, "its unit file has changed"); /* the row of the unit says so */
        assign_by(f, ASSIGNMENT_LOAD, "self had the fewest units", VERDICT_TO_BE_LOADED);
        assign_by(f, ASSIGNMENT_RUN, "self had the fewest units", VERDICT_TO_BE_LAUNCHED);
        assert_string_equal(
                words_of(
                        &LIST_FIRST(
                                 &cluster_unit(registry_cluster(f->host->registry), "a.service")->assignments)
                                 ->why),
                "self had the fewest units");
        assign(f, ASSIGNMENT_STOP, "its target is inactive");
        s.assignment_index =
                cluster_assignment(registry_cluster(f->host->registry), f->host->id, "a.service")->index;
        assert_int_equal(
                host_wait(f->host, registry_publish(f->host->registry, &s, 1, host_on_done, f->host)), KV_OK);
        assert_string_equal(rows(f), "assigned a.service on self: self had the fewest units\n"
                                     "assigned a.service on self: its target state is loaded\n"
                                     "assigned a.service on self: its target state is launched\n"
                                     "stop a.service on self: its target is inactive\n"
                                     "state a.service on self: stopped\n");
}

/* After a restore, hosts report what has run all the time. */
static void a_state_from_before_the_daemon_is_marked(void **state) {
        Fixture *f = *state;
        StateChange s = { .unit = "a.service", .precedes = true };

        assert_int_equal(unit_state_init(&s.state, "loaded", "active", "running", NULL, 1, false), 0);
        assert_int_equal(
                host_wait(f->host, registry_publish(f->host->registry, &s, 1, host_on_done, f->host)), KV_OK);
        unit_state_done(&s.state);
        assert_string_equal(rows(f),
                            "state a.service on self: active (running), since before fleetd started\n");
        publish(f, "failed", "failed", "loaded", "", false);
        assert_string_equal(rows(f), "state a.service on self: failed\n");
}

static void states_are_recorded_without_those_in_between(void **state) {
        Fixture *f = *state;

        publish(f, "inactive", "dead", "loaded", "", false);
        publish(f, "activating", "start", "loaded", "", false);
        publish(f, "active", "running", "loaded", "", false);
        publish(f, "active", "running", "loaded", "", false);
        publish(f, "reloading", "reload", "loaded", "", false);
        publish(f, "deactivating", "stop-sigterm", "loaded", "", false);
        publish(f, "failed", "failed", "loaded", "", false);
        publish(f, "inactive", "dead", "loaded", "", true);
        publish_with(f, "failed", "failed", "loaded", "", false, "exit status 203/EXEC");
        publish_with(f, "failed", "failed", "loaded", "", false, "exit status 203/EXEC");
        publish_with(f, "inactive", "dead", "loaded", "refused", false, "Unit ghost2.service not found.");
        publish(f, "inactive", "dead", "not-found", "", false);
        publish(f, "inactive", "dead", "loaded", "dependency", false);
        publish(f, "activating", "auto-restart", "loaded", "", false);
        assert_string_equal(rows(f), "state a.service on self: inactive (dead)\n"
                                     "state a.service on self: active (running)\n"
                                     "state a.service on self: failed\n"
                                     "state a.service on self: finished\n"
                                     "state a.service on self: failed: exit status 203/EXEC\n"
                                     "state a.service on self: not started: Unit ghost2.service not found.\n"
                                     "state a.service on self: not loaded (not-found)\n"
                                     "state a.service on self: not started: dependency\n"
                                     "state a.service on self: activating (auto-restart)\n");
}

/* systemd forgets the refused start of a unit that it cannot load when the unit is stopped or destroyed. */
static void the_stop_of_a_unit_that_was_not_loaded_adds_no_row(void **state) {
        static const char setting[] = "Unit a.service has a bad unit file setting.";
        Fixture *f = *state;

        publish_with(f, "inactive", "dead", "bad-setting", "refused", false, setting);
        publish_with(f, "inactive", "dead", "bad-setting", "", false, setting);
        assert_string_equal(rows(f), "state a.service on self: not started: Unit a.service has a bad unit "
                                     "file setting.\n");
        publish_with(f, "inactive", "dead", "bad-setting", "refused", false, setting);
        publish_with(f, "inactive", "dead", "not-found", "", false, setting);
        assert_string_equal(rows(f), "state a.service on self: not started: Unit a.service has a bad unit "
                                     "file setting. (2)\n"
                                     "state a.service on self: not loaded (not-found): Unit a.service has a "
                                     "bad unit file setting.\n");
        publish_with(f, "inactive", "dead", "loaded", "refused", false, "a job");
        publish_with(f, "inactive", "dead", "loaded", "", false, "a job");
        assert_string_equal(rows(f), "state a.service on self: not started: a job\n"
                                     "state a.service on self: inactive (dead): a job\n");
}

static void publish_run(Fixture *f, const char *sub, const char *invocation) {
        StateChange s = { .unit = "a.service" };

        assert_int_equal(unit_state_init(&s.state, "loaded", "active", sub, NULL, 1, false), 0);
        snprintf(s.state.invocation, sizeof(s.state.invocation), "%s", invocation);
        assert_int_equal(
                host_wait(f->host, registry_publish(f->host->registry, &s, 1, host_on_done, f->host)), KV_OK);
        unit_state_done(&s.state);
}

/* An older daemon publishes no invocation. */
static void a_new_start_of_an_active_unit_adds_a_row(void **state) {
        Fixture *f = *state;

        publish_run(f, "running", "");
        publish_run(f, "running", "01");
        publish_run(f, "running", "01"); /* with another text */
        assert_string_equal(rows(f), "state a.service on self: active (running)\n");
        publish_run(f, "running", "02");
        assert_string_equal(rows(f), "state a.service on self: active (running), started again\n");
        publish_run(f, "running", "03");
        assert_string_equal(rows(f), "state a.service on self: active (running), started again (2)\n");
        publish_run(f, "running", "");
        publish_run(f, "running", "03");
        assert_string_equal(rows(f), "");
        publish_run(f, "exited", "04"); /* another state needs no remark */
        assert_string_equal(rows(f), "state a.service on self: active (exited)\n");
}

/* As after a reboot of its host: what was published before the reboot is the same failure. */
static void a_unit_that_fails_again_adds_a_row(void **state) {
        Fixture *f = *state;

        publish_at(f, 1, "failed", "failed", "loaded", "", false, "exit status 7");
        publish_at(f, 1, "failed", "failed", "loaded", "", false, "exit status 7");
        assert_string_equal(rows(f), "state a.service on self: failed: exit status 7\n");
        publish_at(f, 2, "failed", "failed", "loaded", "", false, "exit status 7");
        assert_string_equal(rows(f), "state a.service on self: failed: exit status 7, again\n");
}

/* One that restarts each second is published in this order; the number of restarts does not matter. */
static void a_unit_that_restarts_for_a_day_adds_few_rows(void **state) {
        enum { RESTARTS = 24 * 20 };
        Fixture *f = *state;

        for (unsigned i = 0; i < RESTARTS; i++) {
                wall_ms += 24ull * HOUR_MS / RESTARTS;
                publish(f, "active", "running", "loaded", "", false);
                publish(f, "deactivating", "stop-sigterm", "loaded", "", false);
                publish(f, "activating", "auto-restart", "loaded", "", false);
        }
        (void) rows(f);
        assert_true(f->n_rows <= 100);
        assert_int_equal(f->n_counted, 2 * RESTARTS);

        for (unsigned i = 0; i < RESTARTS; i++) { /* so fast that nothing in between is published */
                char invocation[INVOCATION_ID_SIZE];

                wall_ms += 24ull * HOUR_MS / RESTARTS;
                snprintf(invocation, sizeof(invocation), "%032x", i);
                publish_run(f, "running", invocation);
        }
        (void) rows(f);
        assert_true(f->n_rows <= 50);
        assert_int_equal(f->n_counted, RESTARTS);
}

static void present(Fixture *f, Presence is, const char *reason) {
        const ClusterMachine *m = cluster_machine(registry_cluster(f->host->registry), other);
        PresenceChange c = { .presence = is, .expected_index = m ? m->presence_index : 0 };
        KvState kv;

        kv_state(f->host->store, &kv);
        memcpy(c.machine, other, sizeof(c.machine));
        verdict_read_former(VERDICT_IN_PRESENCE, reason, &c.verdict);
        assert_int_equal(host_wait(f->host, registry_presence(f->host->registry, kv.term, &c, 1, host_on_done,
                                                              f->host)),
                         KV_OK);
}

static void publish_facts(Fixture *f, const char *version) {
        _cleanup_machine_ Machine m = { .name = strdup("m"),
                                        .version = strdup(version),
                                        .boot_id = strdup(other) };

        memcpy(m.id, other, sizeof(m.id));
        assert_int_equal(
                host_wait(f->host, registry_publish_facts(f->host->registry, &m, host_on_done, f->host)),
                KV_OK);
}

static void machines_have_rows(void **state) {
        Fixture *f = *state;
        Registry *r = f->host->registry;
        MemberRecord member = { .start_number = 1, .start_nonce = "1", .peer = "10.0.0.2:2380" };
        MetadataChange set = { .machine = other, .key = "zone", .value = "b", .user = "root" };
        uint64_t id;

        assert_int_equal(
                host_wait(f->host, registry_admit(r, other, "10.0.0.2:2380", &id, host_on_done, f->host)),
                KV_OK);
        member.raft_id = id;
        for (unsigned i = 0; i < 2; i++) /* the second time with a new URL, and of the same start */
                assert_int_equal(
                        host_wait(f->host, registry_record_start(r, other, &member, host_on_done, f->host)),
                        KV_OK);
        present(f, PRESENCE_UP, "");
        publish_facts(f, "1");
        publish_facts(f, "1");
        publish_facts(f, "2");
        for (unsigned i = 0; i < 2; i++)
                assert_int_equal(host_wait(f->host, registry_set_metadata(r, &set, 1, host_on_done, f->host)),
                                 KV_OK);
        set.value = "";
        assert_int_equal(host_wait(f->host, registry_set_metadata(r, &set, 1, host_on_done, f->host)), KV_OK);
        present(f, PRESENCE_UP, "its replica: 8 KiB are free");
        present(f, PRESENCE_UP, "its replica: 4 KiB are free"); /* the same problem */
        present(f, PRESENCE_UP, "its replica works again");
        present(f, PRESENCE_LOST, "no message");
        assert_string_equal(rows(f), "joined on other: 10.0.0.2:2380\n"
                                     "started on other\n"
                                     "presence on other: up\n"
                                     "version on other: 1\n"
                                     "version on other: 2\n"
                                     "metadata on other by root: zone=b\n"
                                     "metadata on other by root: zone removed\n"
                                     "presence on other: up: its replica: 8 KiB are free\n"
                                     "presence on other: up: its replica works again\n"
                                     "presence on other: lost: no message\n");
}

static void problems_of_unit_directories_have_rows(void **state) {
        Fixture *f = *state;
        Problem problem = { .kind = PROBLEM_REFUSED, .text = (char *) "line 4: no\nline 5: no" };
        ProblemChange c = { .machine = f->host->id, .name = "a.service", .problem = &problem };

        for (unsigned i = 0; i < 4; i++) {
                problem.unit_index = i; /* not of interest */
                if (i == 2) {
                        problem.confirmed = true;
                        c.user = "root";
                }
                if (i == 3)
                        c = (ProblemChange) { .machine = f->host->id, .name = "a.service" };
                assert_int_equal(host_wait(f->host, registry_change_directory(f->host->registry, NULL, 0, &c,
                                                                              1, host_on_done, f->host)),
                                 KV_OK);
        }
        assert_string_equal(rows(f), "problem a.service on self: refused: line 4: no\n"
                                     "problem a.service on self by root: confirmed: refused\n"
                                     "resolved a.service on self\n");
}

static void decisions_of_the_cluster_have_rows(void **state) {
        Fixture *f = *state;
        KvState kv;

        kv_state(f->host->store, &kv);
        assert_int_equal(registry_note_level(f->host->registry, 4, "root"), 0);
        assert_int_equal(
                host_wait(f->host, registry_end_adoption(f->host->registry, kv.term, host_on_done, f->host)),
                KV_NOT_FOUND);
        assert_string_equal(rows(f), "level by root: 4\n");
}

/* Write a key below /_fleet/cluster. */
static void write_cluster_key(Fixture *f, const char *name, const char *value) {
        char key[128];

        snprintf(key, sizeof(key), "/_fleet/cluster/%s", name);
        propose(f->host,
                &(KvCommand) {
                        .op = KV_SET, .internal = true, .key = kv_string(key), .value = kv_string(value) });
}

/* A host that reports to a restored cluster has not written its unit files. */
static void a_unit_that_is_not_loaded_has_no_row_until_hosts_have_reported(void **state) {
        Fixture *f = *state;
        KvState kv;

        publish(f, "active", "running", "loaded", "", false);
        (void) rows(f);
        kv_state(f->host->store, &kv);
        write_cluster_key(f, "adopting", "1");
        HOST_UNTIL(f->host, registry_cluster(f->host->registry)->adopting);
        publish(f, "inactive", "dead", "not-found", "", false);
        assert_string_equal(rows(f), "");
        publish(f, "failed", "failed", "loaded", "", false);
        assert_string_equal(rows(f), "state a.service on self: failed\n");
        assert_int_equal(
                host_wait(f->host, registry_end_adoption(f->host->registry, kv.term, host_on_done, f->host)),
                KV_OK);
        (void) rows(f);
        publish(f, "inactive", "dead", "not-found", "", false);
        assert_string_equal(rows(f), "state a.service on self: not loaded (not-found)\n");
}

static void the_host_that_was_restored_notes_that_and_the_leader_the_end_of_the_wait(void **state) {
        Fixture *f = *state;
        char name[64], value[128];
        KvState kv;

        kv_state(f->host->store, &kv);
        write_cluster_key(f, "adopting", "1");
        assert_int_equal(
                host_wait(f->host, registry_end_adoption(f->host->registry, kv.term, host_on_done, f->host)),
                KV_OK);
        assert_string_equal(rows(f), "adoption: ended: assignments are in force again\n");

        write_cluster_key(f, "adopting", "1");
        snprintf(name, sizeof(name), "lineage/%016llx", (unsigned long long) kv.lineage);
        snprintf(value, sizeof(value),
                 "{\"ancestor\":\"00000000000000aa\",\"by\":\"anna\",\"index\":214,\"kind\":\"restored\","
                 "\"machine\":\"%s\"}",
                 other);
        write_cluster_key(f, name, value);
        HOST_UNTIL(f->host, cluster_lineage(registry_cluster(f->host->registry), name + strlen("lineage/")));
        assert_int_equal(host_wait(f->host, registry_report(f->host->registry, host_on_done, f->host)),
                         KV_OK);
        assert_string_equal(rows(f), "");
        assert_int_equal(
                host_wait(f->host, registry_end_adoption(f->host->registry, kv.term, host_on_done, f->host)),
                KV_OK);
        assert_string_equal(
                rows(f), "adoption on other by anna: ended: assignments are in force again; the cluster was "
                         "restored at index 214 of lineage 00000000000000aa\n");
        write_cluster_key(f, "adopting", "1");

        memcpy(strstr(value, other), registry_machine_id(f->host->registry), strlen(other));
        write_cluster_key(f, name, value);
        HOST_UNTIL(f->host,
                   streq(cluster_lineage(registry_cluster(f->host->registry), name + strlen("lineage/"))
                                 ->record.machine,
                         registry_machine_id(f->host->registry)));
        assert_int_equal(host_wait(f->host, registry_report(f->host->registry, host_on_done, f->host)),
                         KV_OK);
        assert_string_equal(rows(f),
                            "adoption on self by anna: the cluster was restored at index 214 of lineage "
                            "00000000000000aa\n");
        HOST_UNTIL(f->host, cluster_machine(registry_cluster(f->host->registry), f->host->id)->reported ==
                                    registry_cluster(f->host->registry)->lineage);
        assert_int_equal(
                host_wait(f->host, registry_end_adoption(f->host->registry, kv.term, host_on_done, f->host)),
                KV_OK);
        assert_string_equal(rows(f), "adoption: ended: assignments are in force again (2)\n");
}

static Text logged; /* "PRINCIPAL MACHINE INDEX|MESSAGE" of lines with a message ID */

static void on_log(void *userdata, int priority, const LogFields *fields, const char *message) {
        HistoryKind kind = history_kind_from_string(strndupa(message, strcspn(message, ":")));

        if (!fields->message_id)
                return;
        assert_true(kind >= 0);
        assert_string_equal(fields->message_id, history_message_id(kind));
        assert_true(fields->index > 0);
        text_printf(&logged, "%s %.1s|%s\n", fields->principal ?: "", fields->machine ?: "-", message);
}

static void maintain(Fixture *f, const MaintenanceRecord *record) {
        const ClusterMachine *m = cluster_machine(registry_cluster(f->host->registry), other);

        assert_non_null(m);
        assert_int_equal(host_wait(f->host, registry_maintain(f->host->registry, 0, m, record,
                                                              record->mode == MAINTENANCE_DRAINING ?
                                                                      "begun: its units move away" :
                                                                      NULL,
                                                              host_on_done, f->host)),
                         KV_OK);
}

static void changes_of_membership_have_rows_and_are_logged_with_a_message_id(void **state) {
        Fixture *f = *state;
        Registry *r = f->host->registry;
        const MaintenanceRecord leave = { .by = "anna", .mode = MAINTENANCE_DRAINING, .purpose = "leave" },
                                drained = { .by = "anna", .mode = MAINTENANCE_DRAINED, .purpose = "leave" };
        PrincipalRecord ops = {};
        UserChange user = { .name = "ops", .user = &ops, .by = "anna", .reason = "was created" };
        const TokenRecord token = { .uses = 2 };
        TokenChange created = { .id = "aaaaaaaaaaaa",
                                .token = &token,
                                .ttl_ms = HOUR_MS,
                                .reason = "created, 2 uses",
                                .user = "anna" };
        uint64_t id;

        host_raise(f->host, KV_LEVEL_IDENTITY);
        log_set_sink(on_log, NULL);
        assert_int_equal(
                host_wait(f->host, registry_admit(r, other, "10.0.0.2:2380", &id, host_on_done, f->host)),
                KV_OK);
        assert_int_equal(host_wait(f->host, registry_set_user(r, &user, host_on_done, f->host)), KV_OK);
        assert_int_equal(host_wait(f->host, registry_set_token(r, &created, host_on_done, f->host)), KV_OK);
        maintain(f, &leave);
        maintain(f, &drained); /* a step, no begin */
        assert_int_equal(
                host_wait(f->host, registry_end_maintenance(r, cluster_machine(registry_cluster(r), other),
                                                            "bert", "cancelled", host_on_done, f->host)),
                KV_OK);
        log_set_sink(NULL, NULL);
        assert_string_equal(rows(f), "joined on other: 10.0.0.2:2380\n"
                                     "user by anna: ops was created\n"
                                     "token by anna: aaaaaaaaaaaa created, 2 uses\n"
                                     "leave on other by anna: begun: its units move away\n"
                                     "leave on other by bert: cancelled\n");
        assert_string_equal(logged.chars, " b|joined: bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb: 10.0.0.2:2380\n"
                                          "anna -|user: ops was created, by anna\n"
                                          "anna -|token: aaaaaaaaaaaa created, 2 uses, by anna\n"
                                          "anna b|leave: bbbbbbbb: begun: its units move away, by anna\n"
                                          "bert b|leave: bbbbbbbb: cancelled, by bert\n");
        text_done(&logged);
}

/* More, with all their writes, would exceed the cost of a transaction. */
static void a_large_change_has_rows_for_a_part(void **state) {
        enum { N = 1000 };
        Fixture *f = *state;
        Unit *units[N];
        UnitChange *changes = NEW0(UnitChange, N);

        for (unsigned i = 0; i < N; i++) {
                char name[32];

                snprintf(name, sizeof(name), "u%u.service", i);
                assert_int_equal(unit_parse(name, text_a, strlen(text_a), &units[i], NULL), 0);
                changes[i] = (UnitChange) { .unit = units[i], .has_target = true, .target = TARGET_LAUNCHED };
        }
        assert_int_equal(host_wait(f->host, registry_change_units(f->host->registry, changes, N, host_on_done,
                                                                  f->host)),
                         KV_OK);
        (void) rows(f);
        assert_int_equal(f->n_rows, 300);
        for (unsigned i = 0; i < N; i++)
                unit_free(units[i]);
        free(changes);
}

/* -- Requests -- */

static unsigned ask(Fixture *f, const char *method, const char *target, const char *body) {
        _cleanup_text_ Text t = {};
        unsigned status = 0;

        text_printf(
                &t,
                "%s %s HTTP/1.1\r\nHost: fleet\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
                "Connection: close\r\n\r\n%s",
                method, target, strlen(body), body);
        free(f->answer);
        f->answer = host_ask(f->host, f->socket, t.chars, t.size);
        (void) sscanf(f->answer, "HTTP/1.1 %u", &status);
        return status;
}

/* Return the units of the rows of an answer, and "." for its end. */
static const char *get(Fixture *f, const char *query) {
        static const char name[] = "\"name\":\"";
        _cleanup_text_ Text target = {};

        text_printf(&target, "/fleet/v1/history%s", query);
        assert_int_equal(ask(f, "GET", target.chars, ""), 200);
        text_clear(&f->rows);
        for (const char *p = strstr(f->answer, "\r\n\r\n"); (p = strchr(p, '{')); p = strchr(p, '\n')) {
                const char *end = strchr(p, '\n'), *found = strstr(p, name);

                if (found && found < end)
                        text_append_bytes(&f->rows, found + strlen(name), strcspn(found + strlen(name), "."));
                else if (starts_with(p, "{\"index\":") || starts_with(p, "{}"))
                        text_append(&f->rows, ".");
                else
                        text_append(&f->rows, "-");
        }
        return f->rows.chars ?: "";
}

#define assert_says(f, part)                                             \
        do {                                                             \
                if (!strstr((f)->answer, part))                          \
                        fail_msg("no \"%s\" in: %s", part, (f)->answer); \
        } while (false)

static void fill(Fixture *f) {
        static const char *const names[] = { "a.service", "b.service", "c.service", "d.service" };

        for (unsigned i = 0; i < ELEMENTS(names); i++, wall_ms += HOUR_MS)
                submit(f, names[i], text_a, (UnitChange) {});
}

static void rows_are_selected(void **state) {
        static const struct {
                const char *query, *expected;
        } cases[] = {
                { "", "abcd." },
                { "?since=1700000000000", "abcd." },
                { "?since=1700000000001", "bcd." },
                { "?since=1700010800000", "d." },
                { "?since=1700010800001", "." },
                { "?since=99999999999999999", "." },
                { "?until=1700000000000", "a." },
                { "?until=1", "." },
                { "?since=1700000000001&until=1700010799999", "bc." },
                { "?last=1", "d." },
                { "?last=3", "bcd." },
                { "?last=4", "abcd." },
                { "?last=100", "abcd." },
                { "?last=0", "." },
                { "?last=1&until=1700000000001", "a." },
                { "?last=2&unit=a.service&unit=%5Bbc%5D.service", "bc." },
                { "?unit=b.service", "b." },
                { "?unit=*.service&last=2", "cd." },
                { "?unit=*", "abcd." },
                { "?unit=x*", "." },
                { "?after=99999999", "." },
        };
        char query[64];
        Fixture *f = *state;

        assert_string_equal(get(f, ""), "."); /* without any row */
        assert_says(f, "\r\n{}\n");
        fill(f);
        for (size_t i = 0; i < ELEMENTS(cases); i++)
                if (!streq(get(f, cases[i].query), cases[i].expected))
                        fail_msg("%s: %s, not %s", cases[i].query, get(f, cases[i].query), cases[i].expected);
        (void) rows(f);
        f->last_index = 0;
        (void) rows(f);
        snprintf(query, sizeof(query), "?after=%llu", (unsigned long long) f->last_index);
        assert_string_equal(get(f, query), ".");
        snprintf(query, sizeof(query), "?after=%llu&last=9", (unsigned long long) f->last_index - 1);
        assert_string_equal(get(f, query), "d.");
        assert_says(f, "\"oldest\":1700000000000}");
}

static void a_row_has_all_members(void **state) {
        Fixture *f = *state;

        submit(f, "a.service", text_a, (UnitChange) { .user = "root" });
        publish(f, "active", "running", "loaded", "", false);
        publish(f, "activating", "auto-restart", "loaded", "", false);
        wall_ms += 1000;
        publish(f, "active", "running", "loaded", "", false);
        assert_string_equal(get(f, ""), "aaa.");
        assert_says(f, "{\"count\":1,\"first\":1700000000000,\"index\":");
        assert_says(f, "\"kind\":\"submitted\",\"last\":1700000000000,\"name\":\"a.service\",\"user\":"
                       "\"root\",\"code\":\"\"}\n");
        assert_says(f, "{\"count\":2,\"first\":1700000000000,\"index\":");
        assert_says(f, "\"kind\":\"state\",\"last\":1700000001000,\"machine\":\"");
        assert_says(f, "\"name\":\"a.service\",\"reason\":\"active (running)\",\"code\":\"\"}\n");
}

static void invalid_parameters_are_rejected(void **state) {
        static const struct {
                const char *query, *message;
        } cases[] = {
                { "?since=yesterday",
                  "since=yesterday: expected milliseconds since 1970, for example since=1763625600000" },
                { "?until=-1",
                  "until=-1: expected milliseconds since 1970, for example until=1763625600000" },
                { "?since=", "since=: expected milliseconds" },
                { "?last=x", "last=x: expected a number, for example last=100" },
                { "?after=x", "after=x: expected a number, for example after=100" },
                { "?follow=maybe", "follow=maybe: expected true or false" },
                { "?unit=",
                  "unit=: expected a name or a pattern of at most 255 bytes, for example unit=web@*" },
                { "?unit=a%00b", "unit=a: expected a name or a pattern" },
                { "?what=1", "what: unknown parameter; expected after, follow, last, since, unit, until" },
                { "?follow=true&until=1", "until: not with follow=true, which has no end" },
        };
        _cleanup_text_ Text many = {};
        Fixture *f = *state;

        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                char target[100];

                snprintf(target, sizeof(target), "/fleet/v1/history%s", cases[i].query);
                assert_int_equal(ask(f, "GET", target, ""), 400);
                assert_says(f, cases[i].message);
        }
        text_append(&many, "/fleet/v1/history?unit=a");
        for (unsigned i = 0; i < 100; i++)
                text_append(&many, "&unit=a");
        assert_int_equal(ask(f, "GET", many.chars, ""), 400);
        assert_says(f, "unit: at most 100 names and patterns");
}

static void without_a_leader_rows_say_how_old_they_are(void **state) {
        Fixture *f = *state;

        assert_int_equal(ask(f, "GET", "/fleet/v1/history", ""), 200);
        assert_null(strstr(f->answer, "Stale"));
        stale_ms = 4100;
        assert_int_equal(ask(f, "GET", "/fleet/v1/history", ""), 200);
        assert_says(f, "\r\nX-Fleet-Stale: 4\r\n");
        stale_ms = 0;
}

/* The tests run as root. */
static void a_request_names_its_user(void **state) {
        Fixture *f = *state;

        assert_int_equal(ask(f, "PUT", "/fleet/v1/units/a.service",
                             "{\"desiredState\":\"inactive\",\"options\":[{\"section\":\"Service\",\"name\":"
                             "\"ExecStart\",\"value\":\"/bin/true\"}]}"),
                         201);
        assert_int_equal(ask(f, "PUT", "/fleet/v1/units/a.service", "{\"desiredState\":\"loaded\"}"), 204);
        assert_int_equal(ask(f, "PUT", "/fleet/v1/units/a.service", "{\"desiredState\":\"loaded\"}"), 204);
        assert_int_equal(ask(f, "POST", "/fleet/v1/batch",
                             "{\"units\":[{\"name\":\"a.service\",\"desiredState\":\"launched\"}]}"),
                         204);
        assert_int_equal(ask(f, "DELETE", "/fleet/v1/units/a.service", ""), 204);
        f->last_index = 0;
        (void) rows(f);
        assert_string_equal(f->rows.chars, "submitted a.service by root@alpha\n"
                                           "target a.service by root@alpha: loaded\n"
                                           "target a.service by root@alpha: launched\n"
                                           "destroyed a.service by root@alpha\n");
}

static void the_history_begins_at_a_feature_level(void **state) {
        Fixture *f = *state;

        submit(f, "a.service", text_a, (UnitChange) {});
        assert_int_equal(ask(f, "GET", "/fleet/v1/history", ""), 409);
        assert_says(f, "the history begins at feature level 4, and this cluster has level 1; when all hosts "
                       "run this "
                       "version: fleetctl cluster level 4");
        assert_int_equal(ask(f, "PUT", "/fleet/v1/cluster/level", "{\"level\":3}"), 204);
        assert_int_equal(ask(f, "GET", "/fleet/v1/history", ""), 409);
        assert_int_equal(ask(f, "PUT", "/fleet/v1/cluster/level", "{\"level\":4}"), 204);
        HOST_UNTIL(f->host, strstr(rows(f), "level"));
        assert_string_equal(f->rows.chars, "level by root@alpha: 4\n");
        /* Nothing changes. */
        assert_int_equal(ask(f, "PUT", "/fleet/v1/cluster/level", "{\"level\":4}"), 204);
        host_pause(f->host, 20);
        assert_string_equal(rows(f), "");
        assert_int_equal(ask(f, "GET", "/fleet/v1/history", ""), 200);
}

/* -- Streams -- */

static int dial(Fixture *f, const char *query) {
        struct sockaddr_un a = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        char request[200];

        snprintf(a.sun_path, sizeof(a.sun_path), "%s", f->socket);
        snprintf(request, sizeof(request), "GET /fleet/v1/history?%s HTTP/1.1\r\nHost: fleet\r\n\r\n", query);
        assert_int_equal(connect(fd, (struct sockaddr *) &a, sizeof(a)), 0);
        assert_int_equal(send(fd, request, strlen(request), 0), strlen(request));
        return fd;
}

/* Take what has arrived. Return whether 'part', of less than 100 bytes, has arrived now. */
static bool received(int fd, Text *t, const char *part) {
        size_t before = t->size > 100 ? t->size - 100 : 0;
        char bytes[65536];
        ssize_t n;

        while ((n = recv(fd, bytes, sizeof(bytes), 0)) > 0)
                text_append_bytes(t, bytes, (size_t) n);
        return t->chars && strstr(t->chars + before, part);
}

static void new_and_repeated_rows_follow(void **state) {
        _cleanup_text_ Text t = {};
        Fixture *f = *state;
        int fd;

        fill(f);
        publish(f, "active", "running", "loaded", "", false);
        fd = dial(f, "follow=true&last=2");
        HOST_UNTIL(f->host, received(fd, &t, "oldest"));
        assert_null(strstr(t.chars, "c.service"));
        assert_non_null(strstr(t.chars, "d.service"));
        text_clear(&t);
        submit(f, "e.service", text_a, (UnitChange) {});
        HOST_UNTIL(f->host, received(fd, &t, "e.service"));
        assert_null(strstr(t.chars, "oldest"));
        publish(f, "activating", "auto-restart", "loaded", "", false);
        publish(f, "active", "running", "loaded", "", false);
        HOST_UNTIL(f->host, received(fd, &t, "\"count\":2"));
        close(fd);
        host_pause(f->host, 20); /* its end */
}

enum { MANY = 100000, PART = 500 };

/* Rows of typical units, in 100 hours. */
static void fill_up(Fixture *f) {
        KvCommand writes[PART];
        uint8_t bodies[PART][KV_NOTE_MAX];

        for (unsigned i = 0; i < MANY; i += PART) {
                const KvCommand txn = { .op = KV_TXN, .internal = true, .writes = writes, .n_writes = PART };

                for (unsigned k = 0; k < PART; k++) {
                        char unit[64];
                        HistoryNote note = { HISTORY_STATE, unit, other, NULL, "active (running)" };

                        snprintf(unit, sizeof(unit), "a-unit-with-a-name-of-40-bytes-%06u.service", i + k);
                        writes[k] = (KvCommand) { .op = KV_SET,
                                                  .key = kv_string("/_fleet/x"),
                                                  .internal = true,
                                                  .note = { .wall_ms = wall_ms } };
                        writes[k].note.body = (KvBytes) { bodies[k],
                                                          history_encode(&note, false, bodies[k]) };
                        wall_ms += 3600;
                }
                propose(f->host, &txn);
        }
}

static void an_hour_of_a_full_history_is_found_at_once(void **state) {
        Fixture *f = *state;
        const Turns *turns = loop_turns(f->host->loop);
        uint64_t most_ms = 0, begin = wall_ms;
        int fd, small = 4096;

        fill_up(f);
        for (unsigned hour = 0; hour < 100; hour += 33) {
                uint64_t before = clock_monotonic_ms();
                char query[100];

                snprintf(query, sizeof(query), "?since=%llu&until=%llu",
                         (unsigned long long) (begin + hour * HOUR_MS),
                         (unsigned long long) (begin + (hour + 1) * HOUR_MS - 1));
                assert_int_equal(strlen(get(f, query)),
                                 1000 * strlen("a-unit-with-a-name-of-40-bytes-000000") + 1);
                most_ms = MAX(most_ms, clock_monotonic_ms() - before);
        }
        print_message("an hour of %u rows: %llu ms\n", MANY, (unsigned long long) most_ms);
        assert_true(most_ms < 2000); /* with sanitizers, on a busy machine */
        assert_true(turn_work_bytes(&turns->most) < TURN_WORK_MAX);

        /* A slow reader receives all rows, and costs little memory. */
        _cleanup_text_ Text t = {};
        fd = dial(f, "");
        assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
        host_pause(f->host, 200);
        assert_false(received(fd, &t, "oldest"));
        HOST_UNTIL(f->host, received(fd, &t, "\"oldest\""));
        f->n_rows = 0;
        for (const char *p = t.chars, *end = p + t.size; (p = memchr(p, '{', end - p)); p++)
                f->n_rows++;
        assert_int_equal(f->n_rows, MANY + 1); /* and the end */
        close(fd);
        fd = dial(f, "follow=true&last=90000"); /* leaves in between */
        host_pause(f->host, 5);
        close(fd);
        host_pause(f->host, 20);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, fixture_setup, fixture_teardown)

int main(int argc, char **argv) {
        static const struct CMUnitTest tests[] = {
                TEST(changes_of_units_name_their_users),
                TEST(a_return_to_a_former_text_names_its_revision),
                TEST(different_texts_are_no_repetitions),
                TEST(an_instance_that_returns_to_a_text_of_its_template_names_the_revision),
                TEST(assignments_have_their_reasons),
                TEST(a_state_from_before_the_daemon_is_marked),
                TEST(states_are_recorded_without_those_in_between),
                TEST(the_stop_of_a_unit_that_was_not_loaded_adds_no_row),
                TEST(a_new_start_of_an_active_unit_adds_a_row),
                TEST(a_unit_that_fails_again_adds_a_row),
                TEST(a_unit_that_restarts_for_a_day_adds_few_rows),
                TEST(machines_have_rows),
                TEST(problems_of_unit_directories_have_rows),
                TEST(decisions_of_the_cluster_have_rows),
                TEST(a_unit_that_is_not_loaded_has_no_row_until_hosts_have_reported),
                TEST(the_host_that_was_restored_notes_that_and_the_leader_the_end_of_the_wait),
                TEST(changes_of_membership_have_rows_and_are_logged_with_a_message_id),
                TEST(a_large_change_has_rows_for_a_part),
                TEST(rows_are_selected),
                TEST(a_row_has_all_members),
                TEST(invalid_parameters_are_rejected),
                TEST(without_a_leader_rows_say_how_old_they_are),
                TEST(a_request_names_its_user),
                cmocka_unit_test_setup_teardown(the_history_begins_at_a_feature_level, low_setup,
                                                fixture_teardown),
                TEST(new_and_repeated_rows_follow),
                TEST(an_hour_of_a_full_history_is_found_at_once),
        };

        if (argc > 1)
                cmocka_set_test_filter(argv[1]);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
