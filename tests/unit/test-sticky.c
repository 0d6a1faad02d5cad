/* Units that stay where their data is: a test for each event that would take them elsewhere, and the record
 * of their machine. What the controller would send is written to the cluster view. */
#include "tests/lib/test.h"
#include "fleetd/engine/explain.h"
#include "fleetd/engine/move_request.h"
#include "fleetd/features/data/data.h"
#include "tests/lib/drains.h"

/* Write the records that are due; return the number of transactions. */
static size_t record(ClusterView *p) {
        for (size_t n = 0;; n++) {
                _cleanup_transaction_ Transaction t = {};

                data_step(&t, &p->cluster);
                assert_int_equal(t.error, 0);
                if (t.n_writes == 0)
                        return n;
                assert_int_equal(t.n_checks, t.n_writes);
                for (size_t i = 0; i < t.n_writes; i++) {
                        const KvCommand *w = &t.writes[i];
                        char key[LAYOUT_KEY_MAX], value[256];

                        snprintf(key, sizeof(key), "%.*s", (int) w->key.size, (const char *) w->key.data);
                        snprintf(value, sizeof(value), "%.*s", (int) w->value.size,
                                 (const char *) w->value.data);
                        if (w->op == KV_DELETE)
                                cluster_view_remove(p, key);
                        else
                                cluster_view_put(p, key, value);
                }
        }
}

/* Check which machine the record of the unit names; "": there is none. */
static void has_data_on(ClusterView *p, const char *unit, const char *machine) {
        const ClusterUnit *u = cluster_any_unit(&p->cluster, unit);
        char id[MACHINE_ID_SIZE] = "";

        if (*machine)
                cluster_view_id(id, machine);
        assert_string_equal(u && u->data ? u->data->machine : "", id);
}

/* Put a record of the unit that names a machine. */
static void put_record(ClusterView *p, LayoutKind kind, const char *unit, const char *member,
                       const char *machine) {
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX], value[128];

        snprintf(value, sizeof(value), "{\"%s\":\"%s\",\"since\":1}", member, cluster_view_id(id, machine));
        cluster_view_put(p, layout_key(key, kind, unit, NULL), value);
}

#define put_data(p, unit, machine)  put_record(p, LAYOUT_DATA, unit, "machine", machine)
#define request_mildly(p, unit, to) put_record(p, LAYOUT_MOVE, unit, "to", to)
#define request(p, unit, to)        put_record(p, LAYOUT_MOVE, unit, "withData\":false,\"to", to)

/* Return why a request to move the unit is refused, "to B" if it is accepted; 'to' NULL: to any machine. */
static const char *requested(ClusterView *p, const char *to, bool force) {
        static Error why;
        const ClusterMachine *found = NULL;
        char id[MACHINE_ID_SIZE];

        if (move_request_decide(&p->cluster, cluster_unit(&p->cluster, "db.service"),
                                to ? cluster_machine(&p->cluster, cluster_view_id(id, to)) : NULL, force,
                                &found, &why))
                error_set(&why, 0, "to %s", cluster_machine_name(found));
        return why.message;
}

static void explains_of(ClusterView *p, const char *unit, const char *expected) {
        SchedulerView *v;
        Error why;

        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &v), 0);
        (void) engine_explain_unit(v, cluster_unit(&p->cluster, unit), 30000, p->cluster.now_ms, &why);
        if (!starts_with(why.message, expected))
                fail_msg("\"%s\" does not begin with \"%s\"", why.message, expected);
        scheduler_view_free(v);
}

static void explains(ClusterView *p, const char *expected) {
        explains_of(p, "db.service", expected);
}

/* Remove what names the machine. */
static void remove_machine(ClusterView *p, const char *machine) {
        static const LayoutKind kinds_of[] = { LAYOUT_PRESENCE, LAYOUT_FACTS };
        char id[MACHINE_ID_SIZE], key[LAYOUT_KEY_MAX];

        for (size_t i = 0; i < ELEMENTS(kinds_of); i++)
                cluster_view_remove(p, layout_key(key, kinds_of[i], NULL, cluster_view_id(id, machine)));
        assert_true(!cluster_machine(&p->cluster, id) ||
                    cluster_machine_is_removed(cluster_machine(&p->cluster, id)));
}

/* Of three machines, the unit runs on A, which has more units than the others. */
static void begin(ClusterView *p, const char *options) {
        three_machines(p);
        p->cluster.now_ms += 60000;
        cluster_view_unit(p, "db.service", options, TARGET_LAUNCHED);
        plans(p, "run db.service A");
        cluster_view_execute(p);
        put_units(p, "A", "x", 3);
        record(p);
        plans(p, "");
}

#define STICKY "Sticky=yes"
#define AWAITS "waits for A, where its data is (Sticky=yes): "

/* -- The record -- */

static void the_machine_is_recorded_when_the_unit_is_up_there(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
        cluster_view_unit(&p, "web.service", "", TARGET_LAUNCHED);
        plans(&p, "run db.service A; run web.service B");
        assert_int_equal(record(&p), 0); /* not with the assignment */
        cluster_view_state(&p, "A", "db.service", "activating");
        assert_int_equal(record(&p), 0);
        cluster_view_state(&p, "A", "db.service", "failed");
        assert_int_equal(record(&p), 0);
        cluster_view_execute(&p);
        assert_int_equal(record(&p), 1);
        has_data_on(&p, "db.service", "A");
        has_data_on(&p, "web.service", "");
        assert_int_equal(record(&p), 0);

        /* Of a new lineage, when its hosts have reported. */
        put_data(&p, "db.service", "B");
        p.cluster.adopting = true;
        assert_int_equal(record(&p), 0);
        p.cluster.adopting = false;
        assert_int_equal(record(&p), 1);
        has_data_on(&p, "db.service", "A");
}

static void a_start_that_never_came_up_binds_nothing(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
        plans(&p, "run db.service A");
        cluster_view_state(&p, "A", "db.service", "failed");
        record(&p);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "run db.service B");
}

/* The host is lost between the first published state and the record. */
static void a_unit_that_is_up_stays_without_a_record(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
        plans(&p, "run db.service A");
        cluster_view_state(&p, "A", "db.service", "active");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "");
        explains(&p, AWAITS);
        assert_int_equal(record(&p), 1);
        has_data_on(&p, "db.service", "A");
}

/* A hundred in one transaction, and one transaction in each pass. */
static void the_newest_thousand_records_of_destroyed_units_are_kept(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        char name[32];

        two_machines(&p);
        cluster_view_unit(&p, "db.service", STICKY, TARGET_INACTIVE);
        put_data(&p, "db.service", "A");
        for (unsigned i = 0; i < 1000; i++) {
                snprintf(name, sizeof(name), "u%u.service", i);
                put_data(&p, name, "A");
        }
        put_data(&p, "u0.service", "A"); /* the newest one now */
        assert_int_equal(record(&p), 0);
        put_data(&p, "last.service", "B");
        assert_int_equal(record(&p), 1);
        has_data_on(&p, "u0.service", "A");
        has_data_on(&p, "u1.service", "");
        has_data_on(&p, "u2.service", "A");
        has_data_on(&p, "db.service", "A"); /* older, and its unit exists */

        for (unsigned i = 0; i < 150; i++) {
                snprintf(name, sizeof(name), "v%u.service", i);
                put_data(&p, name, "A");
        }
        assert_int_equal(record(&p), 2);
        has_data_on(&p, "u151.service", "");
        has_data_on(&p, "u152.service", "A");
        has_data_on(&p, "last.service", "B");
}

/* -- Events -- */

static void a_lost_host_keeps_its_unit(void **state) {
        static const Presence presences[] = { PRESENCE_AWAY, PRESENCE_LOST, PRESENCE_LEFT };

        for (size_t i = 0; i < ELEMENTS(presences); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                p.cluster.now_ms += 60000;
                cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
                cluster_view_unit(&p, "web.service", "", TARGET_LAUNCHED);
                run_on(&p, "A", "db.service");
                run_on(&p, "A", "web.service");
                record(&p);
                cluster_view_presence(&p, "A", presences[i]);
                plans(&p, presences[i] == PRESENCE_AWAY ? "" : "run web.service B");
                if (presences[i] != PRESENCE_AWAY)
                        explains(&p, presences[i] == PRESENCE_LEFT ? AWAITS "shut down since " :
                                                                     AWAITS "lost since ");
                p.cluster.now_ms += 90 * 24 * 3600 * UINT64_C(1000);
                cluster_view_execute(&p);
                plans(&p, presences[i] == PRESENCE_AWAY ? "" : "stop web.service A");
                cluster_view_presence(&p, "A", PRESENCE_UP);
                plans(&p, "");
                assert_int_equal(record(&p), 0);
        }
}

static void a_removed_machine_keeps_its_data(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, STICKY);
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        remove_machine(&p, "A");
        plans(&p, "run x00.service B; run x01.service C; run x02.service B");
        explains(&p, "waits for aaaaaaaa, where its data is (Sticky=yes): not in the cluster; bring");
        cluster_view_target(&p, "db.service", TARGET_INACTIVE);
        plans(&p, "stop db.service A");
        has_ended(&p, "A", "db.service");
        cluster_view_target(&p, "db.service", TARGET_LAUNCHED);
        plans(&p, "");
        explains(&p, "waits for aaaaaaaa, where its data is (Sticky=yes): not in the cluster");
        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        plans(&p, "run db.service A; stop x00.service B; stop x01.service C; stop x02.service B");
}

static void it_returns_to_its_data_despite_the_load(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, STICKY);
        for (unsigned destroyed = 0; destroyed < 2; destroyed++) {
                if (destroyed)
                        cluster_view_destroy(&p, "db.service");
                else
                        cluster_view_target(&p, "db.service", TARGET_INACTIVE);
                plans(&p, "stop db.service A");
                has_ended(&p, "A", "db.service");
                has_data_on(&p, "db.service", "A");

                maintain(&p, "A", "cordoned", "");
                cluster_view_unit(&p, "db.service", destroyed ? "Sticky=yes\nMove=stop-first" : STICKY,
                                  TARGET_LAUNCHED);
                plans(&p, "");
                explains(&p,
                         "no machine qualifies (A is cordoned; B and C do not have its data (Sticky=yes), "
                         "which is on A)");
                maintain(&p, "A", NULL, "");
                plans(&p, "run db.service A");
                cluster_view_execute(&p);
                assert_int_equal(record(&p), 0);
        }
}

static void a_drain_ends_beside_it(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, STICKY);
        maintain(&p, "A", "draining", "\"force\":true,");
        plans(&p, "run x00.service B; run x01.service C; run x02.service B");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINING);
        explains(&p, "waiting: A is being drained; it stays: its data is there (Sticky=yes)");
        cluster_view_execute(&p);
        plans(&p, "stop x00.service A; stop x01.service A; stop x02.service A");
        for (unsigned i = 0; i < 3; i++)
                has_ended(&p, "A", (const char *[]) { "x00.service", "x01.service", "x02.service" }[i]);
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        assert_int_equal(step_of(&p, "A").n_left, 0);
        plans(&p, "");
}

static void the_deadline_of_a_drain_stops_it_until_uncordon(void **state) {
        static const char *const modes[] = { "draining", "drained" };

        for (size_t i = 0; i < ELEMENTS(modes); i++) {
                _cleanup_cluster_view_ ClusterView p;

                three_machines(&p);
                cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
                run_on(&p, "A", "db.service");
                record(&p);
                maintain(&p, "A", modes[i], "\"deadline\":1001000,");
                plans(&p, "");
                p.cluster.now_ms = 1001000;
                plans(&p, "load db.service A");
                explains(
                        &p,
                        "waiting: the deadline of the drain of A has passed, and it waits there: its data is "
                        "there (Sticky=yes)");
                cluster_view_state(&p, "A", "db.service", "inactive");
                assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
                plans(&p, "");
                maintain(&p, "A", "drained", ""); /* the drain has ended */
                plans(&p, "");
                has_data_on(&p, "db.service", "A");
                maintain(&p, "A", NULL, "");
                plans(&p, "run db.service A");
        }
}

static void a_leave_waits_for_it(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        _cleanup_names_ Names blocked = {};
        SchedulerView *v;

        begin(&p, STICKY);
        maintain(&p, "A", "draining", "\"for\":\"leave\",");
        plans(&p, "run x00.service B; run x01.service C; run x02.service B");
        assert_int_equal(step_of(&p, "A").n_left, 4);
        assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &v), 0);
        assert_int_equal(
                engine_blocked_units(v, cluster_unit_up(cluster_unit(&p.cluster, "db.service"))->machine,
                                     &blocked),
                0);
        assert_int_equal(blocked.n, 1);
        assert_string_equal(blocked.items[0], "db.service");
        scheduler_view_free(v);
        assert_string_equal(requested(&p, "B", true), "to B");
        request(&p, "db.service", "B");
        plans(&p, "stop db.service A");
}

/* Its host, and logind, do not wait: systemd stops it. */
static void a_shutdown_does_not_wait_for_it(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
        run_on(&p, "A", "db.service");
        record(&p);
        maintain(&p, "A", "draining", "\"for\":\"shutdown\",");
        plans(&p, "");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        maintain(&p, "A", "drained", "\"for\":\"shutdown\",");
        plans(&p, "");
        cluster_view_presence(&p, "A", PRESENCE_LEFT);
        plans(&p, "");
}

static void a_new_text_that_excludes_the_machine_stops_it_and_it_waits(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, STICKY);
        cluster_view_machine(&p, "B", "zone=b", PRESENCE_UP);
        cluster_view_text(&p, "db.service", "Sticky=yes\nMachineMetadata=zone=b", "/bin/true");
        cluster_view_roll(&p, "db.service");
        plans(&p, "stop db.service A");
        has_ended(&p, "A", "db.service");
        plans(&p, "");
        explains(&p, "no machine qualifies (");
        cluster_view_text(&p, "db.service", "Sticky=no\nMachineMetadata=zone=b", "/bin/true");
        plans(&p, "run db.service B");
        cluster_view_execute(&p);
        assert_int_equal(record(&p), 0);
        has_data_on(&p, "db.service", "A");
}

static void neither_another_unit_nor_a_conflict_replaces_it(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, STICKY);
        cluster_view_unit(&p, "k.service", "Replaces=db.service", TARGET_LAUNCHED);
        run_on(&p, "A", "k.service");
        plans(&p, "");
}

/* -- Requested moves -- */

static void a_request_without_force_is_rejected(void **state) {
        static const char refused[] = "its data is on A (Sticky=yes), and is not copied; to move it without: "
                                      "repeat the command with --force";
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, STICKY);
        assert_string_equal(requested(&p, "B", false), refused);
        assert_string_equal(requested(&p, NULL, false), refused);
        assert_string_equal(requested(&p, "B", true), "to B");
        assert_string_equal(requested(&p, NULL, true), "to B");
        assert_string_equal(requested(&p, "A", true), "to A"); /* where it is: the request changes nothing */
        assert_string_equal(requested(&p, "A", false), "to A");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        assert_string_equal(
                requested(&p, "B", true),
                "B does not qualify: it is lost; the rules of all machines: fleetctl why db.service");
}

static void a_forced_move_stops_first_and_the_record_follows(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, STICKY);
        request(&p, "db.service", "B");
        plans(&p, "stop db.service A");
        plans(&p, "");
        has_ended(&p, "A", "db.service");
        plans(&p, "run db.service B");
        has_data_on(&p, "db.service", "A");
        cluster_view_state(&p, "B", "db.service", "active");
        plans(&p, ""); /* the move ends after the record */
        assert_int_equal(record(&p), 1);
        has_data_on(&p, "db.service", "B");
        plans(&p, "moved to B");
        plans(&p, "");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "");
}

/* It stopped first: there is nothing to go back to. */
static void a_forced_move_that_fails_leaves_the_record(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        begin(&p, STICKY);
        request(&p, "db.service", "B");
        plans(&p, "stop db.service A");
        has_ended(&p, "A", "db.service");
        plans(&p, "run db.service B");
        cluster_view_state(&p, "B", "db.service", "failed");
        assert_int_equal(record(&p), 0);
        plans(&p, "move of db.service to B failed: it failed there");
        plans(&p, "");
        has_data_on(&p, "db.service", "A");
        assert_string_equal(requested(&p, "A", false), "to A");
        request(&p, "db.service", "A");
        plans(&p, "stop db.service B");
        has_ended(&p, "B", "db.service");
        plans(&p, "run db.service A");
}

/* Lost, shut down, removed, or unknown; on a machine that is being drained, too. */
static void a_forced_move_needs_no_former_machine(void **state) {
        for (unsigned i = 0; i < 5; i++) {
                _cleanup_cluster_view_ ClusterView p;

                three_machines(&p);
                p.cluster.now_ms += 60000;
                cluster_view_unit(&p, "db.service", "Sticky=yes\nOnReconnect=keep-old", TARGET_LAUNCHED);
                run_on(&p, "A", "db.service");
                record(&p);
                switch (i) {
                case 0:
                        cluster_view_presence(&p, "A", PRESENCE_LOST);
                        break;
                case 1:
                        cluster_view_presence(&p, "A", PRESENCE_LEFT);
                        break;
                case 2:
                        remove_machine(&p, "A");
                        break;
                case 3:
                        cluster_view_state(&p, "A", "db.service", NULL);
                        has_ended(&p, "A", "db.service");
                        put_data(&p, "db.service", "F");
                        break;
                default:
                        maintain(&p, "A", "draining", "");
                }
                plans(&p, "");
                if (i == 3)
                        explains(&p, "waits for ffffffffffffffffffffffffffffffff, where its data is "
                                     "(Sticky=yes): not "
                                     "in the cluster; bring the host ffffffffffffffffffffffffffffffff up, or "
                                     "fleetctl move db.service HOST --force (without its data)");
                assert_string_equal(requested(&p, "C", true), "to C");
                request(&p, "db.service", "C");
                if (i == 4) {
                        plans(&p, "stop db.service A");
                        has_ended(&p, "A", "db.service");
                }
                plans(&p, "run db.service C");
                cluster_view_state(&p, "C", "db.service", "active");
                assert_int_equal(record(&p), 1);
                has_data_on(&p, "db.service", "C");
                if (i < 3)
                        plans(&p, "stop db.service A");
                plans(&p, "moved to C");
                plans(&p, "");
                if (i < 3) {
                        /* The former machine returns, where it has run all the time. */
                        cluster_view_machine(&p, "A", "", PRESENCE_UP);
                        plans(&p, "");
                        has_ended(&p, "A", "db.service");
                        plans(&p, "");
                }
        }
}

/* -- Which units -- */

static void set_sticky(ClusterView *p, const char *value) {
        char settings[64];

        snprintf(settings, sizeof(settings), "{\"sticky\":%s}", value);
        cluster_view_put(p, "/_fleet/cluster/settings", settings);
}

/* As in a cluster that was founded by a former version, or below the feature level. */
static void without_the_setting_it_fails_over_as_before(void **state) {
        static const struct {
                const char *options, *setting;
                unsigned level;
                bool stays;
        } rows[] = {
                { "", "false", KV_LEVEL_MAX, false },
                { "", "true", KV_LEVEL_MAX, false }, /* without data */
                { "Sticky=no", "true", KV_LEVEL_MAX, false },
                { STICKY, "false", KV_LEVEL_MAX, true },
                { STICKY, "true", KV_LEVEL_SCHEDULING, true },
                { STICKY, "true", KV_LEVEL_SCHEDULING - 1, false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p;

                two_machines(&p);
                p.cluster.level = rows[i].level;
                set_sticky(&p, rows[i].setting);
                cluster_view_unit(&p, "db.service", rows[i].options, TARGET_LAUNCHED);
                run_on(&p, "A", "db.service");
                assert_int_equal(record(&p), rows[i].stays);
                cluster_view_presence(&p, "A", PRESENCE_LOST);
                plans(&p, rows[i].stays ? "" : "run db.service B");
        }
}

/* The text of the file, and what the messages quote; NULL: it does not stay. */
static void data_in_the_file_keeps_its_machine_unless_the_file_says_otherwise(void **state) {
        static const struct {
                const char *name, *command, *options, *text;
        } rows[] = {
                { "db.service", "/a\nStateDirectory=db", "", "StateDirectory=db" },
                { "db.service", "/a\nCacheDirectory=db", "", NULL },
                { "db.service", "/a\nStateDirectory=db", "Sticky=no", NULL },
                { "db.service", "/a", STICKY, STICKY },
                { "db.service", "/a\nStateDirectory=db", "MaxSurge=1", NULL },
                { "db.service", "/a\nStateDirectory=db", "ReplaceAfterSec=1h", NULL },
                { "db.service", "/a\nStateDirectory=db", "ReplaceAfterSec=never", "StateDirectory=db" },
                { "db.service", "/a\nStateDirectory=db", "Move=no", "StateDirectory=db" },
                { "db.service", "/a\nStateDirectory=db", "Global=yes", NULL },
                { "db.service", "/a\nStateDirectory=db", "MachineOf=x.service", NULL },
                { "db.service", "/a\nStateDirectory=db", "MachineID=aaaaaaaa", NULL },
                { "db.container", "i\nVolume=pgdata:/var/lib/db", "", "Volume=pgdata" },
                { "db.container", "i\nVolume=/srv/db:/var/lib/db", "", NULL },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p = {};
                char text[DATA_TEXT_SIZE];
                const ClusterUnit *u;

                set_sticky(&p, "true");
                cluster_view_text(&p, rows[i].name, rows[i].options, rows[i].command);
                u = cluster_unit(&p.cluster, rows[i].name);
                if (u->sticky != !!rows[i].text)
                        fail_msg("%s %s", rows[i].command, rows[i].options);
                if (rows[i].text)
                        assert_string_equal(cluster_data_text(&p.cluster, u, text), rows[i].text);
        }
}

/* Of a .volume and the .container that follows it, the volume alone stays: both would wait for each other. */
static void a_unit_has_the_data_of_its_followers(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        char text[DATA_TEXT_SIZE];
        const ClusterUnit *lead;

        two_machines(&p);
        set_sticky(&p, "true");
        cluster_view_unit(&p, "app.service", "", TARGET_LAUNCHED);
        cluster_view_text(&p, "mid.service", "MachineOf=app.service", "/a");
        lead = cluster_unit(&p.cluster, "app.service");
        assert_false(lead->sticky);
        cluster_view_text(&p, "z.container", "MachineOf=mid.service", "i\nVolume=pgdata:/d");
        assert_true(lead->sticky);
        assert_false(cluster_unit(&p.cluster, "mid.service")->sticky);
        assert_string_equal(cluster_data_text(&p.cluster, lead, text), "z.container: Volume=pgdata");
        cluster_view_text(&p, "y.service", "MachineOf=app.service", "/a\nStateDirectory=y");
        assert_string_equal(cluster_data_text(&p.cluster, lead, text), "y.service: StateDirectory=y");

        run_on(&p, "A", "app.service");
        record(&p);
        has_data_on(&p, "app.service", "A");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "");
        cluster_view_destroy(&p, "y.service");
        assert_true(lead->sticky);
        cluster_view_destroy(&p, "mid.service"); /* the way to z.container */
        assert_false(lead->sticky);
        plans(&p, "run app.service B");
}

/* It has no data of its own, and is not sticky. A drain and a reboot do not wait for it, nor does a deadline
 * take it elsewhere. */
static void what_follows_a_unit_with_data_stays_beside_it(void **state) {
        static const char *const names[] = { "db.service", "mid.service", "web.service" };
        static const char *const options[] = { STICKY, "MachineOf=db.service", "MachineOf=mid.service" };
        _cleanup_cluster_view_ ClusterView p;
        const ClusterMachine *a;
        char id[MACHINE_ID_SIZE];

        three_machines(&p);
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                cluster_view_unit(&p, names[i], options[i], TARGET_LAUNCHED);
                run_on(&p, "A", names[i]);
        }
        record(&p);
        maintain(&p, "A", "draining", "\"force\":true,");
        plans(&p, "");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);
        explains_of(&p, "web.service",
                    "waiting: A is being drained; it stays: its data is there (Sticky=yes)");
        maintain(&p, "A", "draining", "\"for\":\"leave\",");
        assert_int_equal(step_of(&p, "A").n_left, 3);
        maintain(&p, "A", "draining", "\"for\":\"shutdown\",");
        plans(&p, "");
        assert_int_equal(step_of(&p, "A").next.mode, MAINTENANCE_DRAINED);

        maintain(&p, "A", "drained", "\"deadline\":1001000,");
        p.cluster.now_ms = 1001000;
        plans(&p, "load db.service A; load mid.service A; load web.service A");
        for (size_t i = 0; i < ELEMENTS(names); i++)
                cluster_view_state(&p, "A", names[i], "inactive");
        explains_of(
                &p, "web.service",
                "waiting: the deadline of the drain of A has passed, and it waits there: its data is there "
                "(Sticky=yes)");
        maintain(&p, "A", NULL, "");
        plans(&p, "run db.service A; run mid.service A; run web.service A");
        cluster_view_execute(&p);

        cluster_view_presence(&p, "A", PRESENCE_LEFT);
        plans(&p, "");
        explains_of(&p, "web.service", AWAITS "shut down");
        cluster_view_presence(&p, "A", PRESENCE_LOST);
        plans(&p, "");
        explains_of(&p, "web.service", AWAITS "lost");

        request(&p, "db.service", "C");
        a = cluster_machine(&p.cluster, cluster_view_id(id, "A"));
        assert_null(cluster_data_holder(cluster_unit(&p.cluster, "web.service"), a));
        plans(&p, "run db.service C; run mid.service C; run web.service C");
}

/* Units that follow each other end no search. */
static void units_that_follow_each_other_hold_nothing(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        char id[MACHINE_ID_SIZE];

        two_machines(&p);
        cluster_view_unit(&p, "a.service", "MachineOf=b.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "MachineOf=a.service", TARGET_LAUNCHED);
        run_on(&p, "A", "a.service");
        run_on(&p, "A", "b.service");
        assert_null(cluster_data_holder(cluster_unit(&p.cluster, "a.service"),
                                        cluster_machine(&p.cluster, cluster_view_id(id, "A"))));
}

/* The view keeps for each unit what a search finds. */
static void each_unit_is_known_to_stay_after_any_changes(void **state) {
        static const char *const commands[] = { "/a", "/a\nStateDirectory=x", "/b" };
        Random random;

        random_seed(&random, 7);
        for (unsigned run = 0; run < 40; run++) {
                _cleanup_cluster_view_ ClusterView p = {};

                for (unsigned i = 0; i < 60; i++) {
                        char name[32], options[64] = "";
                        unsigned u = (unsigned) random_below(&random, 6),
                                 of = (unsigned) random_below(&random, 6);

                        snprintf(name, sizeof(name), "u%u.service", u);
                        if (random_below(&random, 2) && of != u)
                                snprintf(options, sizeof(options), "MachineOf=u%u.service", of);
                        else if (random_below(&random, 4) == 0)
                                snprintf(options, sizeof(options), "Sticky=%s", i % 2 ? "yes" : "no");
                        if (random_below(&random, 5) == 0)
                                cluster_view_destroy(&p, name);
                        else if (random_below(&random, 8) == 0)
                                set_sticky(&p, i % 2 ? "true" : "false");
                        else
                                cluster_view_text(&p, name, options, commands[random_below(&random, 3)]);
                        for (const ClusterUnit *x = p.cluster.units; x; x = x->hh.next)
                                assert_int_equal(x->sticky, cluster_unit_is_sticky(&p.cluster, x));
                }
        }
}

/* -- Random histories -- */

enum { HISTORY_STEPS = 60, HISTORY_UNITS = 5 };

static const char *const hosts[] = { "A", "B", "C", "D" };

/* Change something of a random host or unit; no request moves one, and no text lets one move. */
static void change_at_random(ClusterView *p, Random *random, unsigned step) {
        static const Presence presences[] = { PRESENCE_UP, PRESENCE_UP, PRESENCE_AWAY, PRESENCE_LOST,
                                              PRESENCE_LEFT };
        static const char *const modes[] = { NULL, NULL, "cordoned", "draining", "drained" };
        static const char *const purposes[] = {
                "", "", "\"force\":true,", "\"for\":\"shutdown\",", "\"deadline\":1,", "\"for\":\"leave\","
        };
        static const char *const texts[] = { STICKY, STICKY, "Sticky=yes\nMachineMetadata=x=1",
                                             "Sticky=yes\nSingleton=yes", "Sticky=yes\nConflicts=u*" };
        const char *host = hosts[random_below(random, ELEMENTS(hosts))];
        char unit[32], command[32], id[MACHINE_ID_SIZE];

        snprintf(unit, sizeof(unit), "u%u.service", (unsigned) random_below(random, HISTORY_UNITS));
        snprintf(command, sizeof(command), "/bin/%u", step);
        switch (random_below(random, 8)) {
        case 0:
        case 1:
                cluster_view_machine(p, host, random_below(random, 2) ? "x=1" : "",
                                     presences[random_below(random, ELEMENTS(presences))]);
                break;
        case 2:
                maintain(p, host, modes[random_below(random, ELEMENTS(modes))],
                         purposes[random_below(random, ELEMENTS(purposes))]);
                break;
        case 3:
                if (cluster_machine(&p->cluster, cluster_view_id(id, host)))
                        remove_machine(p, host);
                break;
        case 4:
                cluster_view_text(p, unit, texts[random_below(random, ELEMENTS(texts))], command);
                cluster_view_roll(p, unit);
                break;
        case 5:
                if (cluster_unit(&p->cluster, unit))
                        cluster_view_target(p, unit, (TargetState) random_below(random, 3));
                break;
        case 6:
                cluster_view_destroy(p, unit);
                break;
        default:
                cluster_view_unit(p, unit, texts[random_below(random, ELEMENTS(texts))], TARGET_LAUNCHED);
                cluster_view_roll(p, unit);
                break;
        }
        p->cluster.now_ms += random_below(random, 60000);
}

/* Each sticky unit has one active assignment at most, and that is on the machine of its data. */
static void check_places(const ClusterView *p, unsigned run, unsigned step) {
        for (const ClusterUnit *u = p->cluster.units; u; u = u->hh.next) {
                const char *id = u->sticky ? cluster_data_machine(u) : NULL;
                const ClusterAssignment *a;

                LIST_FOREACH(a, &u->assignments, of_unit)
                        if (id && cluster_assignment_is_active(a) && !streq(a->machine->id, id))
                                fail_msg("run %u, step %u: %s is on %.1s, its data on %.1s", run, step,
                                         u->name, a->machine->id, id);
        }
}

enum { LEADS = 20 };

/* Return the work of keeping the text of the last one of some units that follow the same ones. */
static uint64_t work_of_follower(size_t followers, const char *data) {
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };
        char name[32], text[1024] = "";
        uint64_t before = 0;

        cluster_view_put(&p, "/_fleet/cluster/settings", "{\"sticky\":true}");
        for (size_t i = 0; i < LEADS; i++) {
                snprintf(name, sizeof(name), "a%zu.service", i);
                cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
                strcat(strcat(strcat(text, "MachineOf="), name), "\n");
        }
        strcat(text, data);
        for (size_t i = 0; i < followers; i++) {
                before = p.cluster.filed.nodes;
                snprintf(name, sizeof(name), "b%zu.service", i);
                cluster_view_unit(&p, name, text, TARGET_LAUNCHED);
        }
        return p.cluster.filed.nodes - before;
}

static void the_work_of_a_follower_does_not_grow_with_the_others(void **state) {
        static const char *const data[] = { "", "[Service]\nStateDirectory=db\n" };

        for (size_t i = 0; i < ELEMENTS(data); i++)
                assert_int_equal(work_of_follower(100, data[i]), work_of_follower(10, data[i]));
}

static void in_any_history_a_unit_is_where_its_data_is(void **state) {
        unsigned runs = getenv("CHECK_ALL") ? 10000 : 300;
        Random random;

        random_seed(&random, 11);
        for (unsigned run = 0; run < runs; run++) {
                _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };

                for (unsigned step = 0; step < HISTORY_STEPS; step++) {
                        change_at_random(&p, &random, step);
                        for (unsigned i = 0; i < 3; i++) {
                                free(cluster_view_plan(&p, true));
                                check_places(&p, run, step);
                                cluster_view_execute(&p);
                                if (random_below(&random, 2))
                                        record(&p);
                        }
                        record(&p); /* of the next leader */
                        check_places(&p, run, step);
                }
        }
}

static void an_unreadable_record_starts_nothing(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        two_machines(&p);
        cluster_view_unreadable(&p, LAYOUT_DATA, "db.service", NULL);
        cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
        plans(&p, "");
        explains(&p, "left as it is: " CLUSTER_UNREADABLE);
        run_on(&p, "A", "db.service");
        assert_int_equal(record(&p), 0);
        put_data(&p, "db.service", "A");
        plans(&p, "");
}

#define LINEAGE "00000000000000ab"

/* The lineage begins now. Of three hosts, C has not reported since. */
static void restored(ClusterView *p, const char *record_on, const char *moving_to) {
        char value[128], key[128], id[MACHINE_ID_SIZE];

        three_machines(p);
        cluster_view_unit(p, "db.service", STICKY, TARGET_LAUNCHED);
        cluster_view_assign(p, "A", "db.service", ASSIGNMENT_RUN);
        if (record_on)
                put_data(p, "db.service", record_on);
        if (moving_to)
                request(p, "db.service", moving_to);
        cluster_view_presence(p, "C", PRESENCE_LOST);
        snprintf(value, sizeof(value), "{\"ancestor\":\"" LINEAGE "\",\"index\":%llu,\"kind\":\"restored\"}",
                 (unsigned long long) p->index);
        cluster_view_put(p, "/_fleet/cluster/lineage/" LINEAGE, value);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(id, "C"));
        cluster_view_put(p, key, "0000000000000001");
        p->cluster.lineage = 0xab;
        cluster_view_presence(p, "A", PRESENCE_UP);
}

static void a_restore_starts_nothing_on_a_copy_that_may_be_older(void **state) {
        static const char waits[] =
                "its data may be newer on C, which did not report in time: bring it up, or fleetctl "
                "move db.service HOST --force";

        for (unsigned i = 0; i < 4; i++) {
                _cleanup_cluster_view_ ClusterView p;

                restored(&p, i == 3 ? NULL : "A", NULL);
                plans(&p, "stop db.service A"); /* its agent has not started it */
                has_ended(&p, "A", "db.service");
                plans(&p, "");
                explains(&p, waits);
                if (i == 0) {
                        /* The host returns, and it runs there. */
                        cluster_view_presence(&p, "C", PRESENCE_UP);
                        cluster_view_state(&p, "C", "db.service", "active");
                        plans(&p, "run db.service C");
                        assert_int_equal(record(&p), 1);
                        has_data_on(&p, "db.service", "C");
                } else if (i == 1) {
                        /* The host returns, without the unit: it has booted, and a person decides. */
                        cluster_view_presence(&p, "C", PRESENCE_UP);
                        plans(&p, "");
                        explains(&p, "its data may be newer on C, which did not report in time: if so, "
                                     "fleetctl move db.service C --force");
                        request(&p, "db.service", "C");
                        plans(&p, "run db.service C");
                } else if (i == 2) {
                        assert_string_equal(requested(&p, "B", true), "to B");
                        request(&p, "db.service", "B");
                        plans(&p, "run db.service B");
                } else {
                        remove_machine(&p, "C");
                        plans(&p, "run db.service A");
                }
        }
}

/* The end of the adoption puts assignments in force: what may not run is stopped before. */
static void a_host_whose_report_is_awaited_counts_too(void **state) {
        _cleanup_cluster_view_ ClusterView p;
        char key[128], id[MACHINE_ID_SIZE];

        restored(&p, "A", NULL);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/reported", cluster_view_id(id, "C"));
        cluster_view_remove(&p, key);
        cluster_view_put(&p, "/_fleet/machine/0000000000000000000000000000000c/facts", "{}");
        cluster_view_put(&p, "/_fleet/cluster/adopting", "1");
        plans(&p, "stop db.service A");
}

/* A unit that starts, or that systemd restarts, has processes that use the data. */
static void a_unit_with_processes_goes_on_after_a_restore(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        restored(&p, "A", NULL);
        cluster_view_state(&p, "A", "db.service", "activating");
        plans(&p, "");
        cluster_view_state(&p, "A", "db.service", "deactivating");
        plans(&p, "");
}

/* A request without --force was made while the unit could move. */
static void a_request_without_force_ends_when_the_unit_gets_data(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
        run_on(&p, "A", "db.service");
        put_data(&p, "db.service", "A");
        request_mildly(&p, "db.service", "B");
        plans(&p, "move of db.service to B failed: its data is on A (Sticky=yes)");
        request(&p, "db.service", "B");
        plans(&p, "stop db.service A");
}

static void a_host_that_is_lost_after_the_start_of_a_moved_unit_has_its_data(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        three_machines(&p);
        cluster_view_unit(&p, "db.service", STICKY, TARGET_LAUNCHED);
        run_on(&p, "B", "db.service");
        put_data(&p, "db.service", "A");
        request(&p, "db.service", "B");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        plans(&p, "");
        assert_int_equal(record(&p), 1);
        has_data_on(&p, "db.service", "B");
        plans(&p, "move of db.service to B failed: it is lost");
        plans(&p, "");
}

/* A backup may have a request: the unit may have completed the move since, and another one to C. */
static void a_move_of_the_backup_starts_nothing_either(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        restored(&p, "A", "B");
        plans(&p, "move of db.service to B failed: its data may be newer on C, which did not report in time");
        plans(&p, "stop db.service A");
        has_ended(&p, "A", "db.service");
        plans(&p, "");
        explains(&p, "its data may be newer on C, which did not report in time: bring it up, or fleetctl "
                     "move db.service HOST --force");
        request(&p, "db.service", "B"); /* again, by a person who knows */
        plans(&p, "run db.service B");
}

/* Adopted where it runs; from then on, it is known that its data is there. */
static void a_unit_that_runs_after_a_restore_goes_on_and_is_recorded_again(void **state) {
        _cleanup_cluster_view_ ClusterView p;

        restored(&p, "A", NULL);
        cluster_view_state(&p, "A", "db.service", "active");
        plans(&p, "");
        assert_int_equal(record(&p), 1);
        assert_int_equal(record(&p), 0);
        cluster_view_target(&p, "db.service", TARGET_INACTIVE);
        plans(&p, "stop db.service A");
        has_ended(&p, "A", "db.service");
        cluster_view_target(&p, "db.service", TARGET_LAUNCHED);
        plans(&p, "run db.service A");
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(the_machine_is_recorded_when_the_unit_is_up_there),
                cmocka_unit_test(a_start_that_never_came_up_binds_nothing),
                cmocka_unit_test(a_unit_that_is_up_stays_without_a_record),
                cmocka_unit_test(the_newest_thousand_records_of_destroyed_units_are_kept),
                cmocka_unit_test(a_lost_host_keeps_its_unit),
                cmocka_unit_test(a_removed_machine_keeps_its_data),
                cmocka_unit_test(it_returns_to_its_data_despite_the_load),
                cmocka_unit_test(a_drain_ends_beside_it),
                cmocka_unit_test(the_deadline_of_a_drain_stops_it_until_uncordon),
                cmocka_unit_test(a_leave_waits_for_it),
                cmocka_unit_test(a_shutdown_does_not_wait_for_it),
                cmocka_unit_test(a_new_text_that_excludes_the_machine_stops_it_and_it_waits),
                cmocka_unit_test(neither_another_unit_nor_a_conflict_replaces_it),
                cmocka_unit_test(a_request_without_force_is_rejected),
                cmocka_unit_test(a_forced_move_stops_first_and_the_record_follows),
                cmocka_unit_test(a_forced_move_that_fails_leaves_the_record),
                cmocka_unit_test(a_forced_move_needs_no_former_machine),
                cmocka_unit_test(without_the_setting_it_fails_over_as_before),
                cmocka_unit_test(data_in_the_file_keeps_its_machine_unless_the_file_says_otherwise),
                cmocka_unit_test(a_unit_has_the_data_of_its_followers),
                cmocka_unit_test(what_follows_a_unit_with_data_stays_beside_it),
                cmocka_unit_test(units_that_follow_each_other_hold_nothing),
                cmocka_unit_test(each_unit_is_known_to_stay_after_any_changes),
                cmocka_unit_test(the_work_of_a_follower_does_not_grow_with_the_others),
                cmocka_unit_test(in_any_history_a_unit_is_where_its_data_is),
                cmocka_unit_test(an_unreadable_record_starts_nothing),
                cmocka_unit_test(a_restore_starts_nothing_on_a_copy_that_may_be_older),
                cmocka_unit_test(a_move_of_the_backup_starts_nothing_either),
                cmocka_unit_test(a_host_whose_report_is_awaited_counts_too),
                cmocka_unit_test(a_unit_with_processes_goes_on_after_a_restore),
                cmocka_unit_test(a_request_without_force_ends_when_the_unit_gets_data),
                cmocka_unit_test(a_host_that_is_lost_after_the_start_of_a_moved_unit_has_its_data),
                cmocka_unit_test(a_unit_that_runs_after_a_restore_goes_on_and_is_recorded_again),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
