#include "tests/lib/test.h"
#include "base/clock.h"
#include "base/sizes.h"
#include "fleetd/scheduler/scheduler.h"
#include "tests/lib/cluster_view.h"
#include "tests/lib/placement_model.h"
#include "units/verdict_former.h"

static const ClusterUnit *unit(const ClusterView *p, const char *name) {
        return cluster_unit(&p->cluster, name);
}

static const ClusterMachine *machine(const ClusterView *p, const char *name) {
        char id[MACHINE_ID_SIZE];

        return cluster_machine(&p->cluster, cluster_view_id(id, name));
}

/* Return "" if the machine fits. */
static const char *refusal(const ClusterView *p, const char *name, const char *on, bool staying) {
        static Error err;
        SchedulerView *view;
        bool fits;

        err = (Error) {};
        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        fits = scheduler_fits(view, unit(p, name), machine(p, on), staying, &err);
        scheduler_view_free(view);
        assert_int_equal(fits, err.message[0] == 0);
        return err.message;
}

static const char *pick(const ClusterView *p, const char *name, Error *err) {
        const ClusterMachine *m = NULL;
        SchedulerView *view;
        int r;

        *err = (Error) {};
        assert_int_equal(scheduler_view_new(&p->cluster, p->cluster.now_ms, &view), 0);
        r = scheduler_pick(view, unit(p, name), &m, err);
        scheduler_view_free(view);
        assert_true(r == 0 || r == -ENOENT || r == -EAGAIN);
        return r == 0 ? cluster_machine_name(m) : NULL;
}

static void of_many_reasons_the_first_eight_are_given(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error why;

        cluster_view_unit(&p, "new.service", "Conflicts=c*", TARGET_LAUNCHED);
        for (unsigned i = 0; i < 10; i++) {
                char machine[16], name[32];

                snprintf(machine, sizeof(machine), "A%u", i);
                snprintf(name, sizeof(name), "c%u.service", i);
                cluster_view_machine(&p, machine, "", PRESENCE_UP);
                cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
                cluster_view_assign(&p, machine, name, ASSIGNMENT_RUN);
        }
        assert_null(pick(&p, "new.service", &why));
        assert_string_equal(
                why.message,
                "no machine qualifies (c0 is on A0, c1 on A1, c2 on A2, c3 on A3, c4 on A4, c5 on A5, "
                "c6 on A6, c7 on A7; 2 more for other reasons)");
}

static void each_rule_rejects_with_a_reason(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_machine(&p, "A", "zone=c", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_machine(&p, "C", "", PRESENCE_AWAY);
        cluster_view_machine(&p, "D", "", PRESENCE_LOST);
        cluster_view_machine(&p, "E", "", PRESENCE_LEFT);
        cluster_view_presence(&p, "F", PRESENCE_UP);
        cluster_view_unit(&p, "web@1.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "web@1.service", ASSIGNMENT_RUN);

        cluster_view_unit(&p, "web@2.service", "Conflicts=web@*.service", TARGET_LAUNCHED);
        assert_string_equal(refusal(&p, "web@2.service", "A", false),
                            "Conflicts=web@*.service, and web@1.service is there");
        assert_string_equal(refusal(&p, "web@2.service", "B", false), "");
        assert_string_equal(refusal(&p, "web@2.service", "C", false), "it does not answer");
        assert_string_equal(refusal(&p, "web@2.service", "D", false), "it is lost");
        assert_string_equal(refusal(&p, "web@2.service", "E", false), "it was shut down");
        assert_string_equal(refusal(&p, "web@2.service", "F", false), "it has published no facts yet");

        cluster_view_unit(&p, "z.service", "MachineMetadata=zone=a\nMachineMetadata=zone=b", TARGET_LAUNCHED);
        assert_string_equal(refusal(&p, "z.service", "A", false),
                            "MachineMetadata=zone=a|b, and it has zone=c");
        assert_string_equal(refusal(&p, "z.service", "B", false),
                            "MachineMetadata=zone=a|b, and it has no zone");

        cluster_view_unit(&p, "m.service", "MachineOf=web@1.service", TARGET_LAUNCHED);
        assert_string_equal(refusal(&p, "m.service", "A", false), "");
        assert_string_equal(refusal(&p, "m.service", "B", false),
                            "MachineOf=web@1.service, and web@1.service is not there");

        cluster_view_unit(&p, "n.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "n.service", ASSIGNMENT_RUN);
        cluster_view_conflicting(&p, "A", "n.service");
        assert_string_equal(refusal(&p, "n.service", "A", true),
                            "it has a unit of that name from another source");
        assert_string_equal(refusal(&p, "n.service", "B", false), "");

        cluster_view_unit(&p, "web.container", "", TARGET_LAUNCHED);
        assert_string_equal(
                refusal(&p, "web.container", "B", false),
                "it has no podman 5.3 or later (podman-system-generator), which .container files need");
        assert_string_equal(refusal(&p, "web.container", "B", true), "");
        cluster_view_put(&p, "/_fleet/machine/bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb/facts",
                         "{\"name\":\"B\",\"quadlet\":true}");
        assert_string_equal(refusal(&p, "web.container", "B", false), "");

        cluster_view_unit(&p, "i.service", "MachineID=bbbbbbbb", TARGET_LAUNCHED);
        assert_string_equal(refusal(&p, "i.service", "B", false), "");
        assert_string_equal(refusal(&p, "i.service", "A", false),
                            "MachineID=bbbbbbbb, and its id is aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");

        /* Units remain on a machine without facts, or with unreadable metadata. */
        assert_string_equal(refusal(&p, "z.service", "F", true), "");
        cluster_view_unreadable(&p, LAYOUT_METADATA, "zone", "B");
        assert_string_equal(refusal(&p, "z.service", "B", true), "");
        assert_string_equal(refusal(&p, "z.service", "B", false), CLUSTER_UNREADABLE);
}

static void lose(ClusterView *p, uint64_t after_ms) {
        p->cluster.now_ms += after_ms;
        cluster_view_presence(p, "A", PRESENCE_LOST);
        p->cluster.now_ms += 1000;
        cluster_view_presence(p, "A", PRESENCE_UP);
}

static void a_machine_that_is_lost_repeatedly_is_damped_twice_as_long_each_time(void **state) {
        _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000000 };
        char id[MACHINE_ID_SIZE];
        const ClusterMachine *m;

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        lose(&p, 0);
        assert_string_equal(refusal(&p, "a.service", "A", false), "");
        lose(&p, 598000);
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 2 times in short order: nothing new for 30 s");
        assert_string_equal(refusal(&p, "a.service", "A", true), "");

        /* An away machine is not lost. */
        p.cluster.now_ms += 10000;
        cluster_view_presence(&p, "A", PRESENCE_AWAY);
        cluster_view_presence(&p, "A", PRESENCE_UP);
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 2 times in short order: nothing new for 20 s");
        p.cluster.now_ms += 20000;
        assert_string_equal(refusal(&p, "a.service", "A", false), "");

        lose(&p, 1000);
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 3 times in short order: nothing new for 60 s");
        lose(&p, 1000);
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 4 times in short order: nothing new for 2 min");
        p.cluster.now_ms += 29001;
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 4 times in short order: nothing new for 2 min");
        p.cluster.now_ms += 999;
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 4 times in short order: nothing new for 90 s");
        p.cluster.now_ms += 999; /* 89001 ms are left */
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 4 times in short order: nothing new for 90 s");
        lose(&p, 1000);
        p.cluster.now_ms += 119000; /* 121 s of 4 min are left */
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 5 times in short order: nothing new for 3 min");
        for (unsigned i = 0; i < 9; i++)
                lose(&p, 1000);
        assert_string_equal(refusal(&p, "a.service", "A", false),
                            "it was lost 14 times in short order: nothing new for 60 min");

        /* After ten minutes without a loss, in addition to the damping, the count starts again. */
        m = cluster_machine(&p.cluster, cluster_view_id(id, "A"));
        lose(&p, m->hold_off_until_ms - p.cluster.now_ms + 600001);
        assert_int_equal(m->losses, 1);
        assert_string_equal(refusal(&p, "a.service", "A", false), "");
}

static void the_reason_of_a_selection_names_the_machine_that_was_damped(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error why;

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        lose(&p, 1000);
        lose(&p, 1000);
        assert_string_equal(pick(&p, "a.service", &why), "B");
        assert_string_equal(why.message,
                            "B was the only machine that qualified; A was lost 2 times in short order");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        assert_null(pick(&p, "a.service", &why));
        assert_non_null(strstr(why.message, "A was lost 2 times in short order: nothing new for 30 s"));
}

static void a_conflict_counts_in_both_directions(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "Conflicts=b.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        assert_string_equal(refusal(&p, "b.service", "A", false),
                            "a.service is there and has Conflicts=b.service");
}

static void a_unit_that_is_stopping_excludes_new_units_and_evicts_none(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "Conflicts=b.service", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_STOP);
        assert_string_equal(refusal(&p, "b.service", "A", false),
                            "a.service is there and has Conflicts=b.service");
        cluster_view_assign(&p, "A", "b.service", ASSIGNMENT_RUN);
        assert_string_equal(refusal(&p, "b.service", "A", true), "");
}

/* A new text affects its own unit alone, whether or not one of the two is global or was placed first. */
static void of_two_in_conflict_exactly_the_one_with_the_newer_text_yields(void **state) {
        for (unsigned i = 0; i < 32; i++) {
                const char *units[] = { "a.service", "b.service" };
                const unsigned newer = i & 1, placed = i >> 1 & 1, named = i >> 4 & 1;
                const char *kept = units[!newer], *edited = units[newer];
                char options[64], why[ERROR_MESSAGE_MAX];
                _cleanup_cluster_view_ ClusterView p = {};

                cluster_view_machine(&p, "A", "", PRESENCE_UP);
                for (unsigned k = 0; k < 2; k++) {
                        snprintf(options, sizeof(options), "%s", i >> (2 + k) & 1 ? "Global=true\n" : "");
                        cluster_view_unit(&p, units[k], options, TARGET_LAUNCHED);
                }
                cluster_view_assign(&p, "A", units[placed], ASSIGNMENT_RUN);
                p.cluster.now_ms = 7;
                cluster_view_assign(&p, "A", units[!placed], ASSIGNMENT_RUN);
                snprintf(options, sizeof(options), "%sConflicts=%s",
                         i >> (2 + newer) & 1 ? "Global=true\n" : "", named ? kept : "*");
                cluster_view_text(&p, edited, options, "/bin/true");
                assert_string_equal(refusal(&p, kept, "A", true), "");
                snprintf(why, sizeof(why), "Conflicts=%s, and %s is there", named ? kept : "*", kept);
                assert_string_equal(refusal(&p, edited, "A", true), why);
        }
}

static void machine_with_podman(ClusterView *p, const char *name) {
        char key[128], id[MACHINE_ID_SIZE], facts[64];

        cluster_view_machine(p, name, "", PRESENCE_UP);
        snprintf(key, sizeof(key), "/_fleet/machine/%s/facts", cluster_view_id(id, name));
        snprintf(facts, sizeof(facts), "{\"name\":\"%s\",\"quadlet\":true}", name);
        cluster_view_put(p, key, facts);
}

/* The text of b is the newer one. It arrives where a is. */
static void two_units_with_one_port_are_not_on_one_machine(void **state) {
        static const char taken[] = "it has a.container, which has port 8080/tcp";
        static const struct {
                const char *a, *b;
                bool arriving, staying; /* whether b is rejected */
        } rows[] = {
                { "Port=x:8080", "Port=y:8080", true, true },
                { "Port=x:80\nPort=y:8080", "Port=y:8080\nPort=z:81", true, true },
                { "Port=x:8080/udp", "Port=x:8080", false, false },
                { "Port=x:auto", "Port=x:auto", false, false },
                { "Port=x:8080", "Port=x:808", false, false },
                { "Port=x:8080", "[Container]\nPublishPort=8080:80", true, false },
                { "[Container]\nPublishPort=127.0.0.1:8080:80/tcp", "Port=x:8080", true, false },
                { "[Container]\nPublishPort=8080:80", "[Container]\nPublishPort=8080:81", true, false },
                { "[Container]\nPublishPort=8080-8081:80-81\nPublishPort=8080", "Port=x:8080", false, false },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p = {};
                const char *arriving = rows[i].arriving ? taken : "", *staying = rows[i].staying ? taken : "";
                SchedulerView *view;

                machine_with_podman(&p, "A");
                cluster_view_unit(&p, "a.container", rows[i].a, TARGET_LAUNCHED);
                cluster_view_unit(&p, "b.container", rows[i].b, TARGET_LAUNCHED);
                cluster_view_assign(&p, "A", "a.container", ASSIGNMENT_RUN);
                assert_string_equal(refusal(&p, "a.container", "A", false), "");
                assert_string_equal(refusal(&p, "b.container", "A", false), arriving);
                p.cluster.level = 10; /* the rule begins with the next level */
                assert_string_equal(refusal(&p, "b.container", "A", false), "");
                p.cluster.level = 11;

                assert_int_equal(scheduler_view_new(&p.cluster, 1, &view), 0);
                assert_true(scheduler_may_adopt(view, unit(&p, "b.container"), machine(&p, "A")));
                assert_int_equal(scheduler_may_return(view, unit(&p, "b.container"), machine(&p, "A")),
                                 !rows[i].arriving);
                assert_int_equal(scheduler_would_fit_freed(view, unit(&p, "b.container"), machine(&p, "A")),
                                 rows[i].arriving);
                assert_ptr_equal(scheduler_conflict_on(view, unit(&p, "b.container"), machine(&p, "A")),
                                 rows[i].arriving ? unit(&p, "a.container") : NULL);
                assert_int_equal(scheduler_conflicts_on(view, unit(&p, "b.container"), machine(&p, "A"),
                                                        &(const ClusterUnit *) { NULL }, 1),
                                 rows[i].arriving);
                scheduler_view_free(view);

                cluster_view_assign(&p, "A", "b.container", ASSIGNMENT_RUN);
                assert_string_equal(refusal(&p, "a.container", "A", true), "");
                assert_string_equal(refusal(&p, "b.container", "A", true), staying);
                cluster_view_text(&p, "a.container", rows[i].a, "/bin/false"); /* the newer text yields */
                assert_string_equal(refusal(&p, "b.container", "A", true), "");
                assert_int_equal(*refusal(&p, "a.container", "A", true) != 0, rows[i].staying);
                cluster_view_assign(&p, "A", "b.container", ASSIGNMENT_STOP);
                assert_string_equal(refusal(&p, "a.container", "A", true), "");
                cluster_view_assign(&p, "A", "a.container", ASSIGNMENT_STOP);
                assert_string_equal(refusal(&p, "b.container", "A", false), arriving);
        }
}

static void where_a_port_is_taken_is_explained_for_each_machine(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        for (unsigned i = 1; i <= 3; i++) {
                char name[] = "w@1.service", on[] = "A";

                name[2] = (char) ('0' + i);
                on[0] = (char) ('A' + i - 1);
                cluster_view_unit(&p, name, "Port=http:80", TARGET_LAUNCHED);
                if (i == 3)
                        break;
                cluster_view_machine(&p, on, "", PRESENCE_UP);
                cluster_view_assign(&p, on, name, ASSIGNMENT_RUN);
        }
        assert_null(pick(&p, "w@3.service", &err));
        assert_string_equal(err.message,
                            "no machine qualifies (A has w@1.service, which has port 80/tcp; B has "
                            "w@2.service, which has port 80/tcp)");
}

static const char *const instances[] = { "w@1.service", "w@2.service" };

/* They get one text one after the other. */
static void of_two_instances_of_a_template_in_conflict_exactly_the_later_one_yields(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "w@2.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "w@1.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "w@2.service", ASSIGNMENT_RUN);
        p.cluster.now_ms = 7;
        cluster_view_assign(&p, "A", "w@1.service", ASSIGNMENT_RUN);
        for (size_t i = 0; i < ELEMENTS(instances); i++) {
                cluster_view_text(&p, instances[i], "Conflicts=w@*", "/bin/true");
                cluster_unit(&p.cluster, instances[i])->unit->from = strdup("w@.service");
        }
        assert_string_equal(refusal(&p, "w@2.service", "A", true), "");
        assert_string_equal(refusal(&p, "w@1.service", "A", true), "Conflicts=w@*, and w@2.service is there");
}

static void the_least_loaded_then_the_smallest_is_picked(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_machine(&p, "C", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "new.service", "", TARGET_LAUNCHED);
        assert_string_equal(pick(&p, "new.service", &err), "A");
        assert_string_equal(err.message, "A had the fewest units (0) of 3 machines that qualify");
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        assert_string_equal(pick(&p, "new.service", &err), "B");
        cluster_view_presence(&p, "B", PRESENCE_LOST);
        assert_string_equal(pick(&p, "new.service", &err), "C");
        assert_string_equal(err.message, "C had the fewest units (0) of 2 machines that qualify");
        cluster_view_presence(&p, "C", PRESENCE_LOST);
        assert_string_equal(pick(&p, "new.service", &err), "A");
        assert_string_equal(err.message, "A was the only machine that qualified");
}

static void a_unit_that_fits_nowhere_gets_the_reason_of_each_machine(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        cluster_view_unit(&p, "a.service", "MachineMetadata=ssd=true", TARGET_LAUNCHED);
        assert_null(pick(&p, "a.service", &err));
        assert_string_equal(err.message, "there is no machine");

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_machine(&p, "C", "ssd=true", PRESENCE_LOST);
        assert_null(pick(&p, "a.service", &err));
        assert_string_equal(err.message,
                            "no machine qualifies (A and B have no metadata ssd=true; C is lost)");
}

static void of_many_machines_that_reject_for_one_reason_four_are_named(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        for (char c = 'A'; c <= 'D'; c++)
                cluster_view_machine(&p, (const char[]) { c, 0 }, "", PRESENCE_LOST);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        assert_null(pick(&p, "a.service", &err));
        assert_string_equal(err.message, "no machine qualifies (A, B, C and D are lost)");
        cluster_view_machine(&p, "E", "", PRESENCE_LOST);
        assert_null(pick(&p, "a.service", &err));
        assert_string_equal(err.message, "no machine qualifies (A, B, C, D and 1 more are lost)");
}

/* Each cause by itself, in singular and plural, and the combinations. 'except' is a machine of which the
 * caller has stated the cause. */
static void no_machine_qualifies_is_explained_by_cause(void **state) {
        enum { MACHINES_MAX = 4, PLACED_MAX = 4 };
        static const struct {
                const char *name, *options;
                struct {
                        const char *name, *metadata;
                        Presence presence;
                        uint64_t since_ms; /* ago */
                } machines[MACHINES_MAX];
                const char *placed[PLACED_MAX][2]; /* machine, unit */
                const char *except, *expected;
        } rows[] = {
                { "new.service", "", {}, {}, NULL, "there is no machine" },
                { "new.service", "", { { "A", "", PRESENCE_LOST } }, {}, "A", "there is no other machine" },
                { "new.service",
                  "",
                  { { "A", "", PRESENCE_LOST } },
                  {},
                  NULL,
                  "no machine qualifies (A is lost)" },
                { "new.service",
                  "",
                  { { "A", "", PRESENCE_LEFT }, { "B", "", PRESENCE_LEFT } },
                  {},
                  NULL,
                  "no machine qualifies (A and B were shut down)" },
                { "new.service",
                  "",
                  { { "A", "", PRESENCE_AWAY } },
                  {},
                  NULL,
                  "no machine qualifies (A does not answer)" },
                { "new.service",
                  "",
                  { { "A", "", PRESENCE_AWAY }, { "B", "", PRESENCE_AWAY }, { "C", "", PRESENCE_LOST } },
                  {},
                  NULL,
                  "no machine qualifies (A and B do not answer; C is lost)" },
                { "new.service",
                  "MachineMetadata=ssd=true",
                  { { "A", "", PRESENCE_UP } },
                  {},
                  NULL,
                  "no machine qualifies (A has no metadata ssd=true)" },
                { "new.service",
                  "MachineMetadata=zone=a\nMachineMetadata=zone=b",
                  { { "A", "zone=c", PRESENCE_UP },
                    { "B", "zone=c", PRESENCE_UP },
                    { "C", "", PRESENCE_UP } },
                  {},
                  NULL,
                  "no machine qualifies (A and B have zone=c, not zone=a|b; C has no metadata zone=a|b)" },
                { "new.service",
                  "MachineID=ffffffff",
                  { { "A", "", PRESENCE_UP }, { "B", "", PRESENCE_UP } },
                  {},
                  NULL,
                  "no machine qualifies (A and B have another ID than ffffffff)" },
                { "new.service",
                  "MachineOf=db.service",
                  { { "A", "", PRESENCE_UP }, { "B", "", PRESENCE_UP }, { "C", "", PRESENCE_LOST } },
                  {},
                  NULL,
                  "no machine qualifies (the cluster has no unit db.service; C is lost)" },
                { "new.service",
                  "MachineOf=db.service",
                  { { "A", "", PRESENCE_UP }, { "B", "", PRESENCE_UP }, { "C", "", PRESENCE_LOST } },
                  { { "C", "db.service" } },
                  NULL,
                  "no machine qualifies (A and B have no unit db.service; C is lost)" },
                { "new.container",
                  "",
                  { { "A", "", PRESENCE_UP } },
                  {},
                  NULL,
                  "no machine qualifies (A has no podman 5.3 or later (podman-system-generator), which "
                  ".container "
                  "files need)" },
                { "web@1.service",
                  "Conflicts=web@*.service",
                  { { "A", "", PRESENCE_LEFT }, { "B", "", PRESENCE_UP }, { "C", "", PRESENCE_UP } },
                  { { "B", "web@2.service" }, { "C", "web@3.service" } },
                  "A",
                  "no other machine qualifies (web@2 is on B, web@3 on C)" },
                { "web@1.service",
                  "Conflicts=log.service",
                  { { "A", "", PRESENCE_UP }, { "B", "", PRESENCE_UP }, { "C", "", PRESENCE_LOST } },
                  { { "A", "log.service" }, { "B", "log.service" } },
                  NULL,
                  "no machine qualifies (log is on A and B; C is lost)" },
                { "web@1.service",
                  "Conflicts=data.mount\nMachineMetadata=zone=a",
                  { { "A", "zone=a", PRESENCE_UP }, { "B", "zone=b", PRESENCE_UP } },
                  { { "A", "data.mount" } },
                  NULL,
                  "no machine qualifies (data.mount is on A; B has zone=b, not zone=a)" },
                /* In the order of their names, also if another one has fewer units: a cause is no new one
                 * when units elsewhere change. */
                { "web@1.service",
                  "Conflicts=web@*.service",
                  { { "A", "", PRESENCE_UP }, { "B", "", PRESENCE_UP }, { "C", "", PRESENCE_LOST } },
                  { { "A", "web@2.service" }, { "A", "log.service" }, { "B", "web@3.service" } },
                  NULL,
                  "no machine qualifies (web@2 is on A, web@3 on B; C is lost)" },
                /* After an hour, a lost machine is named only if no other one is. */
                { "new.service",
                  "MachineMetadata=ssd=true",
                  { { "A", "", PRESENCE_UP },
                    { "B", "", PRESENCE_LOST, 3600000 },
                    { "C", "", PRESENCE_LOST, 3599999 } },
                  {},
                  NULL,
                  "no machine qualifies (A has no metadata ssd=true; C is lost)" },
                { "new.service",
                  "",
                  { { "A", "", PRESENCE_LOST, 3600000 }, { "B", "", PRESENCE_LOST, 7200000 } },
                  {},
                  NULL,
                  "no machine qualifies (A and B are lost)" },
                { "new.service",
                  "",
                  { { "A", "", PRESENCE_LEFT, 7200000 } },
                  {},
                  NULL,
                  "no machine qualifies (A was shut down)" },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                _cleanup_cluster_view_ ClusterView p = {};
                SchedulerView *view;
                Error why = {};

                for (size_t k = 0; k < MACHINES_MAX && rows[i].machines[k].name; k++) {
                        p.cluster.now_ms = 10000000 - rows[i].machines[k].since_ms;
                        cluster_view_machine(&p, rows[i].machines[k].name, rows[i].machines[k].metadata,
                                             rows[i].machines[k].presence);
                }
                p.cluster.now_ms = 10000000;
                cluster_view_unit(&p, rows[i].name, rows[i].options, TARGET_LAUNCHED);
                for (size_t k = 0; k < PLACED_MAX && rows[i].placed[k][0]; k++) {
                        cluster_view_unit(&p, rows[i].placed[k][1], "", TARGET_LAUNCHED);
                        cluster_view_assign(&p, rows[i].placed[k][0], rows[i].placed[k][1], ASSIGNMENT_RUN);
                }
                assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
                scheduler_explain(view, unit(&p, rows[i].name),
                                  rows[i].except ? machine(&p, rows[i].except) : NULL, &why);
                scheduler_view_free(view);
                assert_string_equal(why.message, rows[i].expected);
        }
}

/* A removed machine has neither presence nor facts; its assignments wait for its return. */
static void a_removed_machine_is_not_named(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "MachineMetadata=ssd=true", TARGET_LAUNCHED);
        cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_RUN);
        assert_null(pick(&p, "a.service", &err));
        assert_string_equal(err.message, "no machine qualifies (A has no metadata ssd=true)");
}

/* The cause that the leader has published is the reason: of a stopped daemon, of a host with Agent=no. */
static void a_silent_machine_has_its_cause_as_reason(void **state) {
        static const char *const away[] = { "B", "C", "D" };
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        cluster_view_machine(&p, "A", "", PRESENCE_UP); /* had an agent before */
        cluster_view_machine(&p, "E", "", PRESENCE_UP);
        ((ClusterMachine *) machine(&p, "A"))->member.agentless = true;
        ((ClusterMachine *) machine(&p, "E"))->member.agentless = true;
        for (size_t i = 0; i < ELEMENTS(away); i++)
                cluster_view_machine(&p, away[i], "", PRESENCE_AWAY);
        ((ClusterMachine *) machine(&p, "B"))->verdict.code = VERDICT_AWAY_STOPPED;
        verdict_read_former(VERDICT_IN_PRESENCE, "its replica: full",
                            &((ClusterMachine *) machine(&p, "C"))->verdict);

        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        assert_string_equal(refusal(&p, "a.service", "A", false), "it runs no agent (Agent=no)");
        assert_string_equal(refusal(&p, "a.service", "A", true), "");
        assert_string_equal(refusal(&p, "a.service", "B", false), "it is away (its fleetd was stopped)");
        assert_string_equal(refusal(&p, "a.service", "C", false), "it does not answer");
        assert_null(pick(&p, "a.service", &err));
        assert_string_equal(
                err.message,
                "no machine qualifies (A and E run no agent (Agent=no); B is away (its fleetd was "
                "stopped); C and D do not answer)");
}

/* In any order of the units. */
static void a_unit_replaces_another_only_if_that_one_does_not_name_it(void **state) {
        static const char *const mutual[] = { "a.service", "b.service", "y.service", "z.service" };
        SchedulerView *view;
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "old.service",
                          "Replaces=a.service\nReplaces=b.service\nReplaces=y.service\nReplaces=z.service",
                          TARGET_LAUNCHED);
        for (size_t i = 0; i < ELEMENTS(mutual); i++) {
                if (i == 2) {
                        cluster_view_unit(&p, "new.service", "Replaces=old.service", TARGET_LAUNCHED);
                        cluster_view_assign(&p, "A", "new.service", ASSIGNMENT_RUN);
                }
                cluster_view_unit(&p, mutual[i], "Replaces=old.service", TARGET_LAUNCHED);
                cluster_view_assign(&p, "A", mutual[i], ASSIGNMENT_RUN);
        }
        assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
        assert_ptr_equal(scheduler_replaced_by(view, unit(&p, "old.service"), machine(&p, "A")),
                         unit(&p, "new.service"));
        scheduler_view_free(view);
}

static void a_machine_with_a_unit_that_replaces_it_is_the_second_choice(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "k.service", "Replaces=a.service", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "k.service", ASSIGNMENT_RUN);
        assert_string_equal(pick(&p, "a.service", &err), "A");

        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_unit(&p, "x.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "y.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "B", "x.service", ASSIGNMENT_RUN);
        cluster_view_assign(&p, "B", "y.service", ASSIGNMENT_RUN);
        assert_string_equal(pick(&p, "a.service", &err), "B");

        /* Two units that name each other replace nothing. */
        cluster_view_unit(&p, "a.service", "Replaces=k.service", TARGET_LAUNCHED);
        assert_string_equal(pick(&p, "a.service", &err), "A");
}

static void of_several_conflicts_the_first_by_name_is_reported(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "b1.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "b2.service", "", TARGET_LAUNCHED);
        cluster_view_unit(&p, "new.service", "Conflicts=b*", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "b1.service", ASSIGNMENT_RUN);
        cluster_view_assign(&p, "A", "b2.service", ASSIGNMENT_RUN);
        assert_string_equal(refusal(&p, "new.service", "A", false), "Conflicts=b*, and b1.service is there");
}

static void a_unit_is_not_placed_where_it_is_or_was(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_LOST);
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "a.service", ASSIGNMENT_RUN);
        cluster_view_assign(&p, "B", "a.service", ASSIGNMENT_RUN);
        assert_null(pick(&p, "a.service", &err));
        assert_string_equal(err.message, "no machine qualifies (A has it already; B is lost)");
}

static void of_more_than_a_hundred_machines_the_reason_does_not_count_those_that_qualify(void **state) {
        _cleanup_cluster_view_ ClusterView p = {};
        Error err;

        for (unsigned i = 0; i < 100; i++) {
                char name[8];

                snprintf(name, sizeof(name), "%c%u", 'A' + i % 6, i / 6 % 100);
                cluster_view_machine(&p, name, "", PRESENCE_UP);
        }
        cluster_view_unit(&p, "a.service", "", TARGET_LAUNCHED);
        assert_string_equal(pick(&p, "a.service", &err), "A0");
        assert_string_equal(err.message, "A0 had the fewest units (0) of 100 machines that qualify");
        cluster_view_machine(&p, "F20", "", PRESENCE_UP);
        assert_string_equal(pick(&p, "a.service", &err), "A0");
        assert_string_equal(err.message, "A0 had the fewest units (0) of those that qualify");
}

/* -- Work -- */

#define LONG_NAME "abbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb.service"

/* For one unit on one machine: compared patterns, searched units, and the units there where these are fewer.
 */
static void compared_patterns_and_examined_units_count_as_work(void **state) {
        static const struct {
                const char *there[4][2], *known[4][2], *decided,
                        *options; /* one row for each unit, with its options */
                size_t work;
        } rows[] = {
                { .options = "Conflicts=b.service", .work = 1 },
                { .there = { { "q1.service" }, { "q2.service" } },
                  .known = { { "b1.service" }, { "b2.service" } },
                  .options = "Conflicts=b*",
                  .work = 4 },
                { .there = { { "q1.service" }, { "q2.service" } },
                  .known = { { "b1.service" }, { "b2.service" } },
                  .decided = "q1.service",
                  .options = "Conflicts=b*",
                  .work = 4 },
                { .there = { { "q1.service" } },
                  .known = { { "b1.service" }, { "b2.service" }, { "b3.service" } },
                  .decided = "b1.service",
                  .options = "Conflicts=b*",
                  .work = 5 },
                { .there = { { "q1.service", "Conflicts=z1.service z2.service" } },
                  .known = { { "c1.service", "Conflicts=x*" },
                             { "c2.service", "Conflicts=x*" },
                             { "c3.service", "Conflicts=x*" } },
                  .work = 4 },
                { .there = { { "q1.service" }, { "q2.service" }, { "q3.service" } },
                  .known = { { "c1.service", "Conflicts=x*" },
                             { "c2.service", "Conflicts=x*" },
                             { "c3.service", "Conflicts=x*" } },
                  .work = 5 },
                { .there = { { "q1.service" }, { "q2.service" } },
                  .known = { { "c1.service", "Conflicts=x*" }, { "c2.service", "Conflicts=x.service" } },
                  .work = 6 },
                { .known = { { "c1.service", "Conflicts=x?y" } }, .work = 1 },
                /* A long comparison counts more, in each of the searches. */
                { .there = { { "b1.service" } },
                  .known = { { LONG_NAME } },
                  .options = "Conflicts=a*bbbbbbbbbbbbbbbbbbbbc",
                  .work = 24 },
                { .there = { { LONG_NAME } },
                  .known = { { "ab.service" } },
                  .options = "Conflicts=a*bbbbbbbbbbbbbbbbbbbbc",
                  .work = 25 },
        };

        for (size_t i = 0; i < ELEMENTS(rows); i++) {
                SchedulerView *view;
                _cleanup_cluster_view_ ClusterView p = {};
                size_t before;

                cluster_view_machine(&p, "A", "", PRESENCE_UP);
                for (size_t k = 0; k < 4 && rows[i].there[k][0]; k++) {
                        cluster_view_unit(&p, rows[i].there[k][0], rows[i].there[k][1] ?: "",
                                          TARGET_LAUNCHED);
                        cluster_view_assign(&p, "A", rows[i].there[k][0], ASSIGNMENT_RUN);
                }
                for (size_t k = 0; k < 4 && rows[i].known[k][0]; k++)
                        cluster_view_unit(&p, rows[i].known[k][0], rows[i].known[k][1] ?: "",
                                          TARGET_LAUNCHED);
                cluster_view_unit(&p, "x.service", rows[i].options ?: "", TARGET_LAUNCHED);
                assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
                if (rows[i].decided)
                        assert_int_equal(scheduler_view_decide(view, machine(&p, "A"),
                                                               unit(&p, rows[i].decided), true),
                                         0);
                before = scheduler_view_work(view);
                (void) scheduler_fits(view, unit(&p, "x.service"), machine(&p, "A"), false, NULL);
                if (scheduler_view_work(view) - before != rows[i].work)
                        fail_msg("row %zu: %zu, not %zu", i, scheduler_view_work(view) - before,
                                 rows[i].work);
                scheduler_view_free(view);
        }
}

static void a_selection_examines_all_machines_only_for_its_reason(void **state) {
        const ClusterMachine *m;
        SchedulerView *view;
        _cleanup_cluster_view_ ClusterView p = {};
        Error why = {};

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_machine(&p, "B", "", PRESENCE_UP);
        cluster_view_machine(&p, "C", "", PRESENCE_UP);
        cluster_view_unit(&p, "x.service", "", TARGET_LAUNCHED);
        assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
        assert_int_equal(scheduler_pick(view, unit(&p, "x.service"), &m, &why), 0);
        assert_int_equal(scheduler_view_work(view), 3);
        assert_int_equal(scheduler_pick(view, unit(&p, "x.service"), &m, NULL), 0);
        assert_int_equal(scheduler_view_work(view), 4);
        scheduler_view_free(view);
}

/* 100 patterns and 40 units on each of 20 machines. */
static void a_limit_of_work_ends_a_selection_and_its_explanation(void **state) {
        enum { MACHINES = 20, UNITS = 40, PATTERNS = 100, LIMIT = 10000, ONE = 2 * (UNITS + PATTERNS) };
        _cleanup_text_ Text patterns = {};
        const ClusterMachine *m = NULL;
        SchedulerView *view;
        _cleanup_cluster_view_ ClusterView p = {};
        Error why = {};

        for (unsigned i = 0; i < PATTERNS; i++)
                text_printf(&patterns, "%s*-%uq", i > 0 ? " " : "Conflicts=", i);
        text_append(&patterns, "\nConflicts=*.service");
        for (unsigned i = 0; i < MACHINES; i++) {
                char on[] = { (char) ('A' + i % 6), (char) ('0' + i / 6), 0 };

                cluster_view_machine(&p, on, "", PRESENCE_UP);
                for (unsigned k = 0; k < UNITS; k++) {
                        char name[32];

                        snprintf(name, sizeof(name), "u%u-%u.service", i, k);
                        cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
                        cluster_view_assign(&p, on, name, ASSIGNMENT_RUN);
                }
        }
        cluster_view_unit(&p, "x.service", patterns.chars, TARGET_LAUNCHED);
        assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
        assert_int_equal(scheduler_pick(view, unit(&p, "x.service"), &m, &why), -ENOENT);
        assert_true(scheduler_view_work(view) > 10 * LIMIT);
        scheduler_view_set_work(view, 0);
        scheduler_view_limit(view, LIMIT);
        assert_int_equal(scheduler_pick(view, unit(&p, "x.service"), &m, &why), -E2BIG);
        assert_in_range(scheduler_view_work(view), LIMIT, LIMIT + ONE);
        scheduler_explain(view, unit(&p, "x.service"), NULL, &why);
        assert_in_range(scheduler_view_work(view), LIMIT, LIMIT + ONE);
        scheduler_view_free(view);
}

/* -- Drafts -- */

static ClusterUnit *draft(const char *name, const char *options) {
        ClusterUnit *u = NEW0(ClusterUnit, 1);
        char text[200];

        assert_non_null(u);
        snprintf(text, sizeof(text), "[Service]\nExecStart=/bin/true\n[X-Fleet]\n%s\n", options);
        snprintf(u->name, sizeof(u->name), "%s", name);
        assert_int_equal(unit_parse(name, text, strlen(text), &u->unit, NULL), 0);
        return u;
}

static void drafts_exclude_each_other_as_units_do(void **state) {
        ClusterUnit *drafts[] = {
                draft("a.service", "Conflicts=b.service"),
                draft("b.service", ""),
                draft("c.service", "Conflicts=a*"),
                draft("web@1.service", "Conflicts=web@*.service"),
        };
        const ClusterMachine *m;
        SchedulerView *view;
        _cleanup_cluster_view_ ClusterView p = {};
        Error why = {};

        cluster_view_machine(&p, "A", "", PRESENCE_UP);
        cluster_view_unit(&p, "web@1.service", "Conflicts=web@*.service", TARGET_LAUNCHED);
        cluster_view_assign(&p, "A", "web@1.service", ASSIGNMENT_RUN);
        m = machine(&p, "A");
        assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);
        assert_true(scheduler_fits(view, drafts[0], m, false, NULL));
        assert_int_equal(scheduler_view_decide(view, m, drafts[0], true), 0);
        assert_false(scheduler_fits(view, drafts[1], m, false, &why));
        assert_string_equal(why.message, "a.service is there and has Conflicts=b.service");
        assert_false(scheduler_fits(view, drafts[2], m, false, &why));
        assert_string_equal(why.message, "Conflicts=a*, and a.service is there");
        assert_true(scheduler_fits(view, drafts[3], m, false,
                                   NULL)); /* an earlier revision of it is not another unit */
        scheduler_view_free(view);
        for (size_t i = 0; i < ELEMENTS(drafts); i++) {
                unit_free(drafts[i]->unit);
                free(drafts[i]);
        }
}

/* After any decisions, the next selection is the least loaded machine by an independent count. */
static void the_view_stays_sorted_through_any_decisions(void **state) {
        enum { MACHINES = 26, UNITS = 60 };
        _cleanup_cluster_view_ ClusterView p = {};
        SchedulerView *view;
        bool there[UNITS][MACHINES] = {};
        size_t load[MACHINES] = {};
        Random random;

        random_seed(&random, 3);
        for (unsigned i = 0; i < MACHINES; i++)
                cluster_view_machine(&p, (char[]) { 'A' + i % 6, '0' + i / 6, 0 }, "", PRESENCE_UP);
        for (unsigned i = 0; i < UNITS; i++) {
                char name[16];

                snprintf(name, sizeof(name), "u%u.service", i);
                cluster_view_unit(&p, name, "", TARGET_LAUNCHED);
        }
        cluster_view_unit(&p, "new.service", "", TARGET_LAUNCHED);
        assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &view), 0);

        size_t n;
        _cleanup_free_ ClusterMachine **machines = cluster_machines_sorted(&p.cluster, &n);

        assert_int_equal(n, MACHINES);
        for (unsigned i = 0; i < 3000; i++) {
                size_t u = random_below(&random, UNITS), m = random_below(&random, MACHINES), best = 0;
                const ClusterMachine *picked;
                char name[16];

                snprintf(name, sizeof(name), "u%zu.service", u);
                if (there[u][m])
                        assert_int_equal(scheduler_view_decide(view, machines[m], unit(&p, name), false), 0);
                else
                        assert_int_equal(scheduler_view_decide(view, machines[m], unit(&p, name), true), 0);
                load[m] += there[u][m] ? -1 : 1;
                there[u][m] = !there[u][m];

                for (size_t k = 1; k < MACHINES; k++)
                        if (load[k] < load[best])
                                best = k;
                assert_int_equal(scheduler_pick(view, unit(&p, "new.service"), &picked, NULL), 0);
                assert_ptr_equal(picked, machines[best]);
        }
        scheduler_view_free(view);
}

/* -- The index of rules, compared with a full search -- */

enum { MODEL_DECISIONS = 12 };

typedef struct Model {
        const ClusterView *cluster_view;
        SchedulerView *view;
        struct {
                const ClusterMachine *machine;
                const ClusterUnit *unit;
                bool there;
        } decisions[MODEL_DECISIONS];
        size_t n;
} Model;

static const bool *model_decided(const Model *m, const ClusterMachine *on, const char *name) {
        for (size_t i = m->n; i > 0; i--)
                if (m->decisions[i - 1].machine == on && streq(m->decisions[i - 1].unit->name, name))
                        return &m->decisions[i - 1].there;
        return NULL;
}

static const ClusterAssignment *model_order(const ClusterUnit *u, const ClusterMachine *on) {
        for (const ClusterAssignment *o = LIST_FIRST(&u->assignments); o; o = LIST_NEXT(o, of_unit))
                if (o->machine == on)
                        return o;
        return NULL;
}

static bool model_yields(const ClusterUnit *u, const ClusterAssignment *own, const ClusterUnit *other,
                         const ClusterAssignment *others) {
        if (!own || !others)
                return !own;
        if (u->index != other->index)
                return u->index > other->index;
        if (own->since_ms != others->since_ms)
                return own->since_ms > others->since_ms;
        if (own->created != others->created)
                return own->created > others->created;
        return strcmp(u->name, other->name) > 0;
}

static bool model_conflict(const ClusterUnit *a, const ClusterUnit *b, bool staying) {
        return placement_conflict(&a->unit->placement, a->name, &b->unit->placement, b->name);
}

static bool model_port(const ClusterUnit *a, const ClusterUnit *b, bool staying) {
        return placement_same_port(&a->unit->placement, &b->unit->placement, staying);
}

/* The full search: each unit of the cluster view. */
static bool model_excludes(const Model *m, const ClusterUnit *u, const ClusterMachine *on, bool staying,
                           bool (*excludes)(const ClusterUnit *a, const ClusterUnit *b, bool staying)) {
        for (const ClusterUnit *other = m->cluster_view->cluster.units; other; other = other->hh.next) {
                const bool *decided = model_decided(m, on, other->name);
                const ClusterAssignment *order = model_order(other, on);
                bool stopping = decided ? !*decided : order && !cluster_assignment_is_active(order);

                if (other == u || !other->unit || (!order && !(decided && *decided)))
                        continue;
                if (!excludes(u, other, staying))
                        continue;
                if (!staying || (!stopping && model_yields(u, model_order(u, on), other, order)))
                        return true;
        }
        return false;
}

static bool model_replaced(const Model *m, const ClusterUnit *u, const ClusterMachine *on) {
        for (const ClusterUnit *other = m->cluster_view->cluster.units; other; other = other->hh.next) {
                const bool *decided = model_decided(m, on, other->name);
                const ClusterAssignment *order = model_order(other, on);

                if (other == u || !other->unit ||
                    !(decided ? *decided : order && cluster_assignment_is_active(order)))
                        continue;
                if (placement_match(&other->unit->placement.replaces, u->name) &&
                    !placement_match(&u->unit->placement.replaces, other->name))
                        return true;
        }
        return false;
}

static void rules_found_by_the_index_are_those_of_a_full_search(void **state) {
        static const char *const options[] = {
                "",
                "",
                "Global=true",
                "Conflicts=web@*.service",
                "Conflicts=web@1.service db.service",
                "Conflicts=*",
                "Conflicts=[vw]eb@?.service",
                "Conflicts=d*\nConflicts=app-2.service",
                "Conflicts=app-[0-9].service",
                "Conflicts=\\\\*.service",
                "Replaces=web@*.service",
                "Replaces=app-2.service",
                "Replaces=*b*",
                "Conflicts=nothing-1-*",
                "Conflicts=app-*\nGlobal=true",
                "Port=a:80",
                "Port=a:80\nPort=b:81\nPort=c:auto",
                "Port=a:81/tcp\nPort=b:80/udp\nConflicts=db.service",
                "[Container]\nPublishPort=80:1",
                "Port=a:81\n[Container]\nPublishPort=[::1]:80:1\nPublishPort=81:1",
        };
        static const char *const names[] = {
                "web@1.service", "web@2.service", "web@3.service", "db.service",
                "app-1.service", "app-2.service", "app-3.service", "x.service",
                "w.service",     "web.container", "db.container",
        };
        static const char *const machines[] = { "A", "B", "C" };
        unsigned conflicts = 0, ports = 0, replaced = 0, asked = 0;
        Random random;

        random_seed(&random, 11);
        for (unsigned round = 0; round < 400; round++) {
                _cleanup_cluster_view_ ClusterView p = { .cluster.now_ms = 1000 };
                Model m = { .cluster_view = &p };

                for (size_t i = 0; i < ELEMENTS(machines); i++)
                        machine_with_podman(&p, machines[i]);
                /* Units are added, changed and removed. */
                for (size_t i = 0; i < 2 * ELEMENTS(names); i++)
                        cluster_view_unit(&p, names[random_below(&random, ELEMENTS(names))],
                                          options[random_below(&random, ELEMENTS(options))], TARGET_LAUNCHED);
                for (size_t i = 0; i < 2; i++)
                        cluster_view_destroy(&p, names[random_below(&random, ELEMENTS(names))]);
                for (size_t i = 0; i < 8; i++) {
                        p.cluster.now_ms += random_below(&random, 2);
                        cluster_view_assign(&p, machines[random_below(&random, ELEMENTS(machines))],
                                            names[random_below(&random, ELEMENTS(names))],
                                            random_below(&random, _ASSIGNMENT_MAX));
                }
                assert_int_equal(scheduler_view_new(&p.cluster, p.cluster.now_ms, &m.view), 0);
                for (m.n = 0; m.n < random_below(&random, MODEL_DECISIONS);) {
                        const ClusterMachine *on = machine(
                                &p, machines[random_below(&random, ELEMENTS(machines))]);
                        const ClusterUnit *u = unit(&p, names[random_below(&random, ELEMENTS(names))]);
                        bool there = random_below(&random, 2);

                        if (!u)
                                continue;
                        assert_int_equal(scheduler_view_decide(m.view, on, u, there), 0);
                        m.decisions[m.n].machine = on;
                        m.decisions[m.n].unit = u;
                        m.decisions[m.n++].there = there;
                }
                for (const ClusterUnit *u = p.cluster.units; u; u = u->hh.next)
                        for (const ClusterMachine *on = p.cluster.machines; u->unit && on; on = on->hh.next)
                                for (unsigned staying = 0; staying < 2; staying++) {
                                        bool expected = model_excludes(&m, u, on, staying, model_conflict),
                                             port = !expected &&
                                                    model_excludes(&m, u, on, staying, model_port);
                                        SchedulerRule rule = scheduler_refusal(m.view, u, on, staying, NULL);

                                        assert_int_equal(rule == RULE_CONFLICTS, expected);
                                        assert_int_equal(rule == RULE_PORT, port);
                                        ports += port;
                                        assert_int_equal(scheduler_replaced_by(m.view, u, on) != NULL,
                                                         model_replaced(&m, u, on));
                                        conflicts += expected;
                                        replaced += model_replaced(&m, u, on);
                                        asked++;
                                }
                scheduler_view_free(m.view);
        }
        assert_true(conflicts > asked / 20 && conflicts < asked - asked / 20);
        assert_true(replaced > asked / 50);
        assert_true(ports > asked / 50);
}

/* As "fleetctl plan" asks: the draft of a unit that is placed, with another text. It leaves, except for the
 * earlier of two instances of a template. */
static void a_draft_of_the_earlier_of_two_in_conflict_leaves(void **state) {
        static const char text[] = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nConflicts=w@2.service\n";

        for (unsigned i = 0; i < 2; i++) {
                ClusterUnit draft = { .name = "w@1.service", .index = UINT64_MAX };
                char id[MACHINE_ID_SIZE];
                SchedulerView *view;
                _cleanup_cluster_view_ ClusterView p = {};
                Error why = {};

                cluster_view_machine(&p, "A", "", PRESENCE_UP);
                cluster_view_unit(&p, "w@1.service", "", TARGET_LAUNCHED);
                cluster_view_unit(&p, "w@2.service", "", TARGET_LAUNCHED);
                p.cluster.now_ms = 100;
                cluster_view_assign(&p, "A", "w@1.service", ASSIGNMENT_RUN);
                p.cluster.now_ms = 200;
                cluster_view_assign(&p, "A", "w@2.service", ASSIGNMENT_RUN);
                for (unsigned k = 0; i > 0 && k < 2; k++)
                        cluster_unit(&p.cluster, instances[k])->unit->from = strdup("w@.service");

                assert_int_equal(unit_read(draft.name, text, strlen(text), &draft.unit, NULL), 0);
                draft.assignments = cluster_unit(&p.cluster, draft.name)->assignments;
                assert_int_equal(scheduler_view_new(&p.cluster, 300, &view), 0);
                assert_int_equal(scheduler_fits(view, &draft,
                                                cluster_machine(&p.cluster, cluster_view_id(id, "A")), true,
                                                &why),
                                 i > 0);
                assert_string_equal(why.message,
                                    i > 0 ? "" : "Conflicts=w@2.service, and w@2.service is there");
                scheduler_view_free(view);
                unit_free(draft.unit);
        }
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(each_rule_rejects_with_a_reason),
                cmocka_unit_test(no_machine_qualifies_is_explained_by_cause),
                cmocka_unit_test(a_removed_machine_is_not_named),
                cmocka_unit_test(a_silent_machine_has_its_cause_as_reason),
                cmocka_unit_test(of_many_reasons_the_first_eight_are_given),
                cmocka_unit_test(a_machine_that_is_lost_repeatedly_is_damped_twice_as_long_each_time),
                cmocka_unit_test(the_reason_of_a_selection_names_the_machine_that_was_damped),
                cmocka_unit_test(a_conflict_counts_in_both_directions),
                cmocka_unit_test(a_unit_that_is_stopping_excludes_new_units_and_evicts_none),
                cmocka_unit_test(of_two_in_conflict_exactly_the_one_with_the_newer_text_yields),
                cmocka_unit_test(of_two_instances_of_a_template_in_conflict_exactly_the_later_one_yields),
                cmocka_unit_test(two_units_with_one_port_are_not_on_one_machine),
                cmocka_unit_test(where_a_port_is_taken_is_explained_for_each_machine),
                cmocka_unit_test(a_draft_of_the_earlier_of_two_in_conflict_leaves),
                cmocka_unit_test(the_least_loaded_then_the_smallest_is_picked),
                cmocka_unit_test(a_unit_that_fits_nowhere_gets_the_reason_of_each_machine),
                cmocka_unit_test(of_many_machines_that_reject_for_one_reason_four_are_named),
                cmocka_unit_test(a_unit_replaces_another_only_if_that_one_does_not_name_it),
                cmocka_unit_test(a_machine_with_a_unit_that_replaces_it_is_the_second_choice),
                cmocka_unit_test(the_view_stays_sorted_through_any_decisions),
                cmocka_unit_test(rules_found_by_the_index_are_those_of_a_full_search),
                cmocka_unit_test(of_several_conflicts_the_first_by_name_is_reported),
                cmocka_unit_test(a_unit_is_not_placed_where_it_is_or_was),
                cmocka_unit_test(
                        of_more_than_a_hundred_machines_the_reason_does_not_count_those_that_qualify),
                cmocka_unit_test(compared_patterns_and_examined_units_count_as_work),
                cmocka_unit_test(a_selection_examines_all_machines_only_for_its_reason),
                cmocka_unit_test(a_limit_of_work_ends_a_selection_and_its_explanation),
                cmocka_unit_test(drafts_exclude_each_other_as_units_do),
        };
        return cmocka_run_group_tests(tests, NULL, NULL);
}
