/* Rollouts, drains, moves and planned reboots at once, of sets with MaxSurge=, UpdateBy=, Move=stop-first, a
 * global unit and single ones. Whole daemons, whose leaders and majorities end, and a simulated logind. As
 * the simulated systemd sees it, no set ever has more unavailable instances than its budget permits; when all
 * requests have ended, each instance runs once, with the last text.
 *
 *      test-budget [--seed N] [--runs N] [--trace]
 */

#include "fleetd/features/reboot/reboot.h"
#include "fleetd/features/rollout/rollout.h"
#include "tests/sim/worlds.h"
#include "tests/sim/until.h"

enum {
        PATIENCE_MS = 300000,
        STEP_MS = 10,
        PLAY_MS = 180000,
        WATCH_MS = 2000,
        PUBLISH_MS = 500, /* in which the cluster knows that an instance is available */
        SLOW_MS = 3000,   /* a start of SIM_SLOW */
        TURN_MS = 4000,
        HOSTS = 5,    /* and instances of a set, at most */
        FREE_MIN = 2, /* hosts without maintenance */
        BAD_PERCENT = 25,
        MAJORITY_PERCENT = 25, /* of the crashes */
        DOWN_MS = 6000,
        OFF_MS = 10,
        RETURN_MS = 60000,
        DISTURBED_MS = 6000, /* after a daemon is back; a move that began before lasts as long at most */
};

/* What one rollout updates. */
typedef struct Set {
        const char *head;        /* a template, or the unit itself */
        unsigned n;              /* followers; 0: none */
        bool global;             /* one instance on each host */
        const char *policies[3]; /* one is drawn */
        unsigned budgets[3];     /* instances that may be unavailable with them */
} Set;

static const Set sets[] = {
        /* A drain stops these first: it needs their budget. */
        { "web@.service",
          4,
          false,
          { "Move=stop-first\nMaxUnavailable=1\n", "Move=stop-first\nMaxUnavailable=2\nUpdateBy=zone\n",
            "Move=stop-first\nMinAvailable=3\nUpdateBy=zone\n" },
          { 1, 2, 1 } },
        { "surge@.service",
          3,
          false,
          { "MaxSurge=1\nMaxUnavailable=0\n", "MaxSurge=2\nMaxUnavailable=0\nUpdateBy=zone\n",
            "MaxSurge=1\nCanary=1\n" },
          { 0, 0, 1 } },
        { "each.service",
          0,
          true,
          { "Global=yes\n", "Global=yes\nUpdateBy=zone\n", "Global=yes\nCanary=1\n" },
          { 1, 1, 1 } },
        { "one.service",
          0,
          false,
          { "MaxSurge=1\nMaxUnavailable=0\n", "MaxSurge=1\nMaxUnavailable=0\nUpdatePauseSec=1s\n",
            "MaxSurge=1\nMaxUnavailable=0\nCanary=1\n" },
          { 0, 0, 0 } },
        { "two.service", 0, false, { "Move=stop-first\n", "Move=stop-first\n", "" }, { 1, 1, 1 } },
};

/* A process of an instance on a host. */
typedef struct Process {
        uint64_t invocation, since_ms; /* 0: none */
        uint64_t after_ms;             /* in which it becomes available; UINT64_MAX: never */
} Process;

typedef struct Instance {
        char name[UNIT_NAME_MAX + 1];
        const SimMachine *host; /* of a global unit; NULL: any */
        Process processes[HOSTS];
        bool available; /* since 'since_ms' */
        uint64_t since_ms;
        bool known, taken; /* its host has published that; it was known as available, and is not available */
} Instance;

static const char *const commands[] = { "good", "slow", "exits", "never" };
enum { GOOD_COMMANDS = 2, OWN = 1 /* the instance of each template that has drop-ins of its own */ };

/* One run. */
static struct {
        unsigned policy, version;
        char hash[UNIT_HASH_SIZE], own_hash[UNIT_HASH_SIZE]; /* of the last text; with the drop-ins */
        Instance instances[HOSTS];
        size_t n;
} rolled[ELEMENTS(sets)];
static struct {
        char hash[UNIT_HASH_SIZE];
        uint64_t start_ms; /* until it is active */
} good_texts[4096];
static unsigned n_good_texts;
static bool down[HOSTS];
static uint64_t disturbed_ms[HOSTS]; /* until then, the host is away for others, or was a moment ago */
static unsigned n_texts, n_drains, n_moves, n_reboots, n_crashes, n_quorums, n_boots;
static unsigned most_taken[ELEMENTS(sets)];

/* The leader's view; NULL: none leads. */
static Registry *registry(void) {
        SimMachine *leader = cluster_leader(cluster);

        return leader ? daemon_host(leader->daemon)->registry : NULL;
}

static const ClusterMachine *known(Registry *r, const SimMachine *m) {
        return cluster_machine(registry_cluster(r), m->machine_id);
}

/* -- The budget -- */

/* Return the time after which a process with this text is available; UINT64_MAX: it never is. */
static uint64_t available_after_ms(const char *hash) {
        for (unsigned i = 0; hash && i < n_good_texts; i++)
                if (streq(good_texts[i].hash, hash))
                        return good_texts[i].start_ms + WATCH_MS;
        return UINT64_MAX;
}

/* Whether the process has run for as long as an available one. */
static bool process_refresh(Process *p, const SimMachine *m, const char *unit) {
        uint64_t invocation;

        if (!sim_systemd_runs(m->systemd, unit)) {
                *p = (Process) {};
                return false;
        }
        invocation = sim_systemd_invocation(m->systemd, unit);
        if (p->since_ms == 0 || p->invocation != invocation)
                *p = (Process) { .invocation = invocation,
                                 .since_ms = world_now_ms(world),
                                 .after_ms = available_after_ms(sim_systemd_hash(m->systemd, unit)) };
        return p->after_ms < UINT64_MAX && world_now_ms(world) >= p->since_ms + p->after_ms;
}

/* No budget counts on an instance whose host is away: it may be stopped at any time. */
static void instance_refresh(Instance *p) {
        bool available = false, away = false;

        for (unsigned i = 0; i < cluster->n; i++) {
                Process before = p->processes[i];

                if (p->host && p->host != &cluster->machines[i])
                        continue;
                available |= process_refresh(&p->processes[i], &cluster->machines[i], p->name);
                away |= before.since_ms > 0 && before.invocation != p->processes[i].invocation &&
                        world_now_ms(world) < disturbed_ms[i];
        }
        if (p->host && world_now_ms(world) < disturbed_ms[p->host->index])
                away = true; /* of a global unit, only hosts that are up count */
        p->taken = !available && !(p->host && away) && (p->taken || (p->known && !away));
        p->known = available &&
                   (p->known || (p->available && world_now_ms(world) >= p->since_ms + PUBLISH_MS));
        if (available && !p->available)
                p->since_ms = world_now_ms(world);
        p->available = available;
}

/* Append what the leader knows of an instance. */
static void append_known(Text *t, const Instance *p) {
        Registry *r = registry();
        const ClusterUnit *u = r ? cluster_any_unit(registry_cluster(r), p->name) : NULL;
        const ClusterState *s;

        text_printf(t, "%s%s%s (", p->name, p->host ? " on " : "", p->host ? p->host->name : "");
        if (u)
                LIST_FOREACH(s, &u->states, of_unit)
                        if (!p->host || streq(p->host->machine_id, s->machine->id))
                                text_printf(t, "%s: %s, %s, text %.7s%s; ", cluster_machine_name(s->machine),
                                            presence_to_string(s->machine->presence), s->state.active ?: "",
                                            s->state.hash ?: "", s->state.available ? ", available" : "");
        text_append(t, ") ");
}

static void check_budgets(void) {
        for (size_t i = 0; i < ELEMENTS(sets); i++) {
                unsigned n = 0, budget = sets[i].budgets[rolled[i].policy];
                const Instance *taken[HOSTS];
                _cleanup_text_ Text names = {};

                for (size_t k = 0; k < rolled[i].n; k++) {
                        Instance *p = &rolled[i].instances[k];

                        instance_refresh(p);
                        if (p->taken)
                                taken[n++] = p;
                }
                most_taken[i] = MAX(most_taken[i], n);
                for (unsigned k = 0; n > budget && k < n; k++)
                        append_known(&names, taken[k]);
                if (n > budget)
                        world_failed(world, "operations-share-one-budget",
                                     "%u instances of %s are unavailable, and %u may be: %s", n, sets[i].head,
                                     budget, names.chars);
        }
}

static void run_ms(uint64_t ms) {
        for (uint64_t end_ms = world_now_ms(world) + ms; world_now_ms(world) < end_ms;) {
                world_run(world, world_now_ms(world) + STEP_MS);
                check_budgets();
        }
}

/* -- The hosts -- */

static void on_start(void *userdata) {
        SimMachine *m = userdata;

        if (m->dying)
                world_at(world, STEP_MS, NULL, on_start, m);
        else if (m->power && !m->daemon && !down[m->index])
                machine_start_daemon(m);
}

static void on_power_on(void *userdata) {
        SimMachine *m = userdata;

        down[m->index] = false;
        machine_power_on(m);
}

/* The processes have ended in order; the power follows. */
static void on_power_off(void *userdata) {
        SimMachine *m = userdata;

        machine_power_cut(m);
        world_at(world, 1000 + world_draw(world, DOWN_MS), NULL, on_power_on, m);
}

static void on_down(void *userdata, RebootKind kind) {
        SimMachine *m = userdata;

        world_trace(world, m->name, "goes down");
        down[m->index] = true;
        n_boots++;
        machine_stop_daemon(m);
        world_at(world, OFF_MS, NULL, on_power_off, m);
}

static bool rejects(void *userdata) {
        return false;
}

static void crash(SimMachine *m) {
        uint64_t for_ms = 100 + world_draw(world, 1500);

        if (!m || !m->daemon || m->dying || down[m->index])
                return;
        n_crashes++;
        machine_crash_daemon(m);
        disturbed_ms[m->index] = world_now_ms(world) + for_ms + DISTURBED_MS;
        world_at(world, for_ms, NULL, on_start, m);
}

/* End the daemons of a majority, the leader's with them: a rollout, a move or a drain continues where it was.
 */
static void crash_majority(const SimMachine *first) {
        unsigned n = 0;

        crash(cluster_leader(cluster));
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[(first->index + i) % cluster->n];

                n += !m->daemon;
                if (n <= cluster->n / 2 && m->daemon) {
                        crash(m);
                        n++;
                }
        }
        n_quorums += n > cluster->n / 2;
}

/* -- Requests -- */

static void on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        if (status != KV_OK)
                world_trace(world, "people", "request rejected: %s", message);
}

static Unit *text_of(size_t set, const char *name, const char *command) {
        _cleanup_text_ Text t = {};
        Unit *unit = NULL;

        text_printf(&t,
                    "[Service]\nExecStart=/bin/%s %u\nTimeoutStartSec=10s\n[X-Fleet]\nUpdateWatchSec=2s\n"
                    "UpdateDeadlineSec=20s\nUpdateOnFailure=revert\n%s",
                    command, rolled[set].version, sets[set].policies[rolled[set].policy]);
        if (t.error < 0 || unit_parse(name, t.chars, t.size, &unit, NULL) < 0)
                abort();
        return unit;
}

static Unit *with_drop_ins(const char *name, const Unit *text) {
        _cleanup_text_ Text t = {};
        Unit *unit = NULL;

        text_printf(&t, "%s\n\n# %s.d/own.conf\n[Service]\nEnvironment=OWN=1\n", text->text, name);
        if (t.error < 0 || unit_parse(name, t.chars, t.size, &unit, NULL) < 0)
                abort();
        return unit;
}

static void note_good(const Unit *unit, const char *command) {
        if (n_good_texts == ELEMENTS(good_texts))
                return;
        snprintf(good_texts[n_good_texts].hash, UNIT_HASH_SIZE, "%s", unit->hash);
        good_texts[n_good_texts++].start_ms = streq(command, "slow") ? SLOW_MS : 0;
}

static bool submit(size_t set, const char *name, const char *command, bool launched) {
        _cleanup_unit_ Unit *unit = text_of(set, name, command);
        UnitChange change = { .name = name, .unit = unit, .has_target = launched, .target = TARGET_LAUNCHED };
        Registry *r = registry();

        if (!r)
                return false;
        world_trace(world, "people", "%s: text %u (%s)", name, rolled[set].version, command);
        return registry_change_units(r, &change, 1, on_done, NULL) >= 0;
}

static bool submit_text(size_t set, bool good) {
        const char *command =
                commands[good ? world_draw(world, GOOD_COMMANDS) :
                                GOOD_COMMANDS + world_draw(world, ELEMENTS(commands) - GOOD_COMMANDS)];
        _cleanup_unit_ Unit *unit = NULL, *own = NULL;

        rolled[set].version++;
        unit = text_of(set, sets[set].head, command);
        if (good)
                note_good(unit, command);
        snprintf(rolled[set].hash, UNIT_HASH_SIZE, "%s", unit->hash);
        if (sets[set].n > 0) {
                own = with_drop_ins(rolled[set].instances[OWN].name, unit);
                if (good)
                        note_good(own, command);
                snprintf(rolled[set].own_hash, UNIT_HASH_SIZE, "%s", own->hash);
        }
        n_texts++;
        return submit(set, sets[set].head, command, !unit_name_is_template(sets[set].head));
}

static unsigned count_free(Registry *r) {
        unsigned n = 0;

        for (unsigned i = 0; i < cluster->n; i++) {
                const ClusterMachine *m = known(r, &cluster->machines[i]);

                n += m && m->presence == PRESENCE_UP && m->facts && !m->maintenance && !m->reboot;
        }
        return n;
}

static void request_maintenance(Registry *r, const ClusterMachine *m) {
        MaintenanceRecord next = { .by = "root@sim", .mode = MAINTENANCE_DRAINING };

        if (m->maintenance && !m->maintenance->purpose[0]) {
                world_trace(world, "people", "uncordon %s", cluster_machine_name(m));
                (void) registry_end_maintenance(r, m, "root@sim", "uncordoned", on_done, NULL);
        } else if (!m->maintenance && count_free(r) > FREE_MIN) {
                world_trace(world, "people", "drain %s", cluster_machine_name(m));
                n_drains++;
                (void) registry_maintain(r, 0, m, &next, "draining", on_done, NULL);
        }
}

static void request_reboot(Registry *r, const ClusterMachine *m) {
        RebootRecord record = { .kind = REBOOT_FULL,
                                .state = REBOOT_QUEUED,
                                .return_ms = RETURN_MS,
                                .seq = registry_cluster(r)->index,
                                .since_ms = registry_cluster(r)->now_ms,
                                .slots = 1 };
        RebootChange change = { .machine = m, .record = &record, .reason = "queued" };
        KvState state;

        kv_state(registry_store(r), &state);
        hex64_print(state.lineage, record.lineage);
        if (m->reboot || m->maintenance || count_free(r) <= FREE_MIN)
                return;
        world_trace(world, "people", "reboot %s", cluster_machine_name(m));
        n_reboots++;
        (void) registry_reboot(r, 0, &change, 1, "root@sim", on_done, NULL);
}

static void request_move(Registry *r, const ClusterMachine *to) {
        size_t set = world_draw(world, ELEMENTS(sets));
        const Instance *p = &rolled[set].instances[world_draw(world, rolled[set].n)];
        const ClusterUnit *u = cluster_unit(registry_cluster(r), p->name);
        MoveRecord move = { .by = "root@sim", .since_ms = world_now_ms(world) };

        if (p->host || !u || u->move || cluster_unit_is_unreadable(u))
                return;
        memcpy(move.to, to->id, sizeof(move.to));
        world_trace(world, "people", "move %s to %s", u->name, cluster_machine_name(to));
        n_moves++;
        (void) registry_move(r, u, &move, on_done, NULL);
}

static void request(void) {
        SimMachine *m = &cluster->machines[world_draw(world, cluster->n)];
        Registry *r = registry();
        const ClusterMachine *machine = r && registry_ready(r) ? known(r, m) : NULL;

        if (!machine || machine->presence != PRESENCE_UP || !machine->facts)
                return;
        switch (world_draw(world, 10)) {
        case 0:
        case 1:
        case 2:
                (void) submit_text(world_draw(world, ELEMENTS(sets)), !world_chance(world, BAD_PERCENT));
                break;
        case 3:
        case 4:
        case 5:
        case 6:
                request_maintenance(r, machine);
                break;
        case 7:
                request_reboot(r, machine);
                break;
        case 8:
                request_move(r, machine);
                break;
        default:
                if (world_chance(world, MAJORITY_PERCENT))
                        crash_majority(m);
                else
                        crash(world_chance(world, 70) ? cluster_leader(cluster) : m);
        }
}

/* -- The end -- */

/* End all maintenance and failed reboots; true: none is left. */
static bool all_is_released(void) {
        Registry *r = registry();
        bool none = r != NULL && registry_ready(r);

        for (unsigned i = 0; r && registry_ready(r) && i < cluster->n; i++) {
                const ClusterMachine *m = known(r, &cluster->machines[i]);
                RebootChange change = { .machine = m, .maintenance = REBOOT_RELEASES, .reason = "resumed" };

                if (!m || m->presence != PRESENCE_UP)
                        return false;
                if (m->reboot && m->reboot->state == REBOOT_FAILED)
                        (void) registry_reboot(r, 0, &change, 1, "root@sim", on_done, NULL);
                else if (m->maintenance && !m->maintenance->purpose[0] && !m->reboot)
                        (void) registry_end_maintenance(r, m, "root@sim", "uncordoned", on_done, NULL);
                none &= !m->reboot && !m->maintenance;
        }
        return none;
}

/* Append what the maintenance of a machine waits for. */
static void append_wait(Text *t, Registry *r, const ClusterMachine *m) {
        Error why = {};
        KvState state;

        kv_state(registry_store(r), &state);
        if (m->reboot)
                (void) reboot_may_go_on(registry_cluster(r), &state, false, m, &why);
        text_printf(t, "%s is %s, reboot %s: %s; ", cluster_machine_name(m),
                    m->maintenance ? maintenance_mode_to_string(m->maintenance->mode) : "free",
                    m->reboot ? reboot_state_to_string(m->reboot->state) : "none", why.message);
}

static void end_maintenance(void) {
        uint64_t end_ms = world_now_ms(world) + PATIENCE_MS;

        while (!all_is_released()) {
                _cleanup_text_ Text t = {};
                Registry *r = registry();

                for (unsigned i = 0; r && i < cluster->n; i++) {
                        const ClusterMachine *m = known(r, &cluster->machines[i]);

                        if (m && (m->reboot || m->maintenance))
                                append_wait(&t, r, m);
                }
                if (world_now_ms(world) > end_ms)
                        world_failed(world, "all-maintenance-ends", "%s", t.chars ?: "");
                run_ms(500);
        }
}

/* Each instance runs once, with the last text. */
static bool set_has_last_text(size_t set) {
        for (size_t k = 0; k < rolled[set].n; k++) {
                const Instance *p = &rolled[set].instances[k];
                const char *hash = sets[set].n > 0 && k == OWN ? rolled[set].own_hash : rolled[set].hash;
                unsigned n = 0;

                for (unsigned i = 0; i < cluster->n; i++) {
                        const SimMachine *m = &cluster->machines[i];

                        if ((p->host && p->host != m) || !sim_systemd_runs(m->systemd, p->name))
                                continue;
                        n++;
                        if (!streq(sim_systemd_hash(m->systemd, p->name) ?: "", hash))
                                return false;
                }
                if (n != 1 || !p->available)
                        return false;
        }
        return true;
}

static void ask(Registry *r, const ClusterUnit *u, RolloutVerb verb) {
        const RolloutRequest asked = { .now_ms = registry_cluster(r)->now_ms,
                                       .index = registry_cluster(r)->index + 1,
                                       .by = "root@sim" };
        _cleanup_rollout_ RolloutRecord next = {};

        if (rollout_ask(u, verb, &asked, &next, NULL) >= 0)
                (void) registry_roll(r, 0,
                                     &(RolloutWrite) { .head = u, .record = &next, .reason = "requested" },
                                     on_done, NULL);
}

/* systemd refuses some starts: a failed rollout of a good text is continued, or the text submitted again. */
static bool set_is_rolled_out(size_t set) {
        Registry *r = registry();
        const ClusterUnit *u = r && registry_ready(r) ?
                                       cluster_any_unit(registry_cluster(r), sets[set].head) :
                                       NULL;

        if (set_has_last_text(set))
                return true;
        if (!u || !u->unit)
                return false;
        if (!streq(u->unit->hash, rolled[set].hash))
                (void) submit_text(set, true);
        else if (u->rollout && u->rollout->state == ROLLOUT_PAUSED)
                ask(r, u, ROLLOUT_RESUME);
        else if (u->rollout && u->rollout->state == ROLLOUT_HELD)
                ask(r, u, ROLLOUT_PROMOTE);
        run_ms(1000);
        return false;
}

/* -- One run -- */

static bool all_are_up(void) {
        Registry *r = registry();
        unsigned n = 0;

        for (unsigned i = 0; r && i < cluster->n; i++) {
                const ClusterMachine *m = known(r, &cluster->machines[i]);

                n += m && m->presence == PRESENCE_UP && m->facts && machine_serves(&cluster->machines[i]);
        }
        return n == cluster->n;
}

static void begin_set(size_t set) {
        rolled[set].policy = (unsigned) world_draw(world, ELEMENTS(sets[set].policies));
        rolled[set].n = sets[set].global ? cluster->n : MAX(sets[set].n, 1u);
        for (unsigned i = 0; i < rolled[set].n; i++) {
                Instance *p = &rolled[set].instances[i];

                if (sets[set].n > 0)
                        snprintf(p->name, sizeof(p->name), "%.*s@%u.service",
                                 (int) strcspn(sets[set].head, "@"), sets[set].head, i + 1);
                else
                        snprintf(p->name, sizeof(p->name), "%s", sets[set].head);
                p->host = sets[set].global ? &cluster->machines[i] : NULL;
        }
        rolled[set].version = 1;
        UNTIL("a-set-is-submitted", submit_text(set, true));
}

static void begin_followers(size_t set) {
        Registry *r = registry();
        const ClusterUnit *head = r ? cluster_any_unit(registry_cluster(r), sets[set].head) : NULL;

        for (unsigned i = 0; i < sets[set].n; i++)
                if (head && head->unit && !cluster_unit(registry_cluster(r), rolled[set].instances[i].name)) {
                        UnitChange change = { .name = rolled[set].instances[i].name,
                                              .has_target = true,
                                              .target = TARGET_LAUNCHED };
                        _cleanup_unit_ Unit *unit = NULL;

                        if (i == OWN)
                                unit = with_drop_ins(change.name, head->unit);
                        else if (unit_parse(change.name, head->unit->text, head->unit->text_size, &unit,
                                            NULL) < 0)
                                abort();
                        change.unit = unit;
                        (void) registry_change_units(r, &change, 1, on_done, NULL);
                        return;
                }
}

static bool all_exist(size_t set) {
        Registry *r = registry();

        for (size_t i = 0; r && i < rolled[set].n; i++)
                if (!cluster_unit(registry_cluster(r), rolled[set].instances[i].name)) {
                        begin_followers(set);
                        return false;
                }
        return r != NULL;
}

static void play(void) {
        memset(rolled, 0, sizeof(rolled));
        memset(down, 0, sizeof(down));
        memset(disturbed_ms, 0, sizeof(disturbed_ms));
        n_good_texts = 0;
        cluster = cluster_new(world, HOSTS);
        for (unsigned i = 0; i < cluster->n; i++) {
                SimMachine *m = &cluster->machines[i];
                const SimLogindHooks hooks = { .on_down = on_down, .rejects = rejects, .userdata = m };

                m->logind = sim_logind_new(world, &hooks);
                sim_systemd_show_stops(m->systemd);
                if (pairs_set(&m->settings.metadata, "zone", i % 2 ? "a" : "b") < 0)
                        abort();
                world_at(world, i * 100, NULL, on_start, m);
                machine_suspect(m, world_now_ms(world), UINT64_MAX);
        }
        UNTIL("a-cluster-forms", all_are_up());
        run_ms(2000);
        for (size_t i = 0; i < ELEMENTS(sets); i++) {
                begin_set(i);
                UNTIL("a-set-is-submitted", all_exist(i));
                UNTIL("a-set-runs", set_is_rolled_out(i));
        }
        for (uint64_t end_ms = world_now_ms(world) + PLAY_MS; world_now_ms(world) < end_ms;) {
                request();
                run_ms(200 + world_draw(world, TURN_MS));
        }
        UNTIL("all-hosts-are-up", all_are_up());
        end_maintenance();
        for (size_t i = 0; i < ELEMENTS(sets); i++) {
                UNTIL("a-last-text-is-submitted", submit_text(i, true));
                UNTIL("each-instance-runs-once-with-the-last-text", set_is_rolled_out(i));
        }
}

int main(int argc, char *argv[]) {
        static void (*const scenarios[])(void) = { play };
        unsigned long long runs = worlds_run("tests/sim/test-budget", (Seeds) { .seed = 1, .runs = 3 },
                                             trace_message, scenarios, ELEMENTS(scenarios), argc, argv);

        if (runs == 0)
                return 2;
        printf("%llu runs: %u texts, %u drains, %u moves, %u reboots requested, %u boots, %u daemons ended, "
               "a majority %u times; at most unavailable:",
               runs, n_texts, n_drains, n_moves, n_reboots, n_boots, n_crashes, n_quorums);
        for (size_t i = 0; i < ELEMENTS(sets); i++)
                printf(" %s %u%s", sets[i].head, most_taken[i], i + 1 < ELEMENTS(sets) ? "," : "\n");
        return 0;
}
