#include "tests/lib/agent_fixture.h"

#include <fcntl.h>

#include "tests/lib/test.h"
#include "base/file.h"
#include "base/log.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"

Fixture *running;
unsigned n_starts, n_stops, n_unrecorded, n_slow;

/* -- The records on disk -- */

static char *records_text(Fixture *fixture) {
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment");
        char *text = NULL;

        return read_file_at(AT_FDCWD, path, 1 << 20, &text, NULL) < 0 ? NULL : text;
}

bool is_recorded(Fixture *fixture, const char *unit) {
        _cleanup_free_ char *text = records_text(fixture), *name = NULL;
        const char *at, *runs, *started;

        if (!text || asprintf(&name, "\"name\":\"%s\"", unit) < 0)
                return false;
        at = strstr(text, name);
        runs = at ? strstr(at, "\"order\":\"run\"") : NULL;
        started = at ? strstr(at, "\"startedBoot\":\"b0") : NULL;
        return runs && started && runs < strchr(at, '}') && started < strchr(at, '}');
}

bool records_contain(Fixture *fixture, const char *part) {
        _cleanup_free_ char *text = records_text(fixture);

        return text && strstr(text, part);
}

void change_record(Fixture *fixture, const char *field, const char *value) {
        _cleanup_free_ char *path = scratch_path(fixture->host->agent_path, "assignment"),
                            *text = records_text(fixture), *changed = NULL;
        char *at = text ? strstr(text, field) : NULL;

        assert_non_null(at);
        at += strlen(field);
        assert_true(asprintf(&changed, "%.*s%s%s", (int) (at - text), text, value, at + strcspn(at, "\",}")) >
                    0);
        scratch_write(path, changed);
}

/* -- The fixture -- */

static void on_unit(void *userdata, const char *unit) {
        n_starts++;
        n_slow += streq(unit, "slow.service");
        n_unrecorded += !is_recorded(running, unit) &&
                        !is_recorded(running, unit); /* one allocation may fail on purpose */
}

static void on_unit_end(void *userdata, const char *unit, bool asked) {
        n_stops++;
}

static int on_checks(const ComponentHost *host, const char *problem) {
        Fixture *fixture = container_of(host, Fixture, components);

        fixture->n_reports++;
        snprintf(fixture->checks, sizeof(fixture->checks), "%s", problem);
        return 0;
}

static int ask_set(const ComponentHost *host, const char *unit) {
        container_of(host, Fixture, components)->n_asked++;
        return 0;
}

void open_agent(Fixture *fixture) {
        ComponentHost *host = &fixture->components;
        Error err = {};

        fixture->host->settings.boot_wait_ms = FIXTURE_BOOT_WAIT_MS;
        *host = fixture->host->components;
        host->io.loop = world_loop(fixture->loop);
        host->io.systemd = fixture->bus;
        host->io.prober = sim_prober(fixture->prober);
        snprintf(host->io.boot_id, sizeof(host->io.boot_id), "b0000000000000000000000000000001");
        host->on_checks = on_checks;
        host->ask_set = ask_set;
        assert_int_equal(agent_new(&fixture->agent, host, &err), 0);
}

void close_agent(Fixture *fixture) {
        fixture->agent = agent_free(fixture->agent);
        while (world_loop_is_working(fixture->loop))
                run_ms(fixture, 1);
}

extern const Component services_component;
static void *services;

void open_services(Fixture *fixture) {
        static const Component *const components[] = { &services_component, NULL };
        Settings *settings = &fixture->host->settings;

        fixture->host->components.components = components;
        fixture->host->components.selves = &services;
        snprintf(settings->service_address, sizeof(settings->service_address), "10.0.0.2");
        open_agent(fixture);
        fixture->components.agent = fixture->agent;
        assert_int_equal(services_component.open(&fixture->components, settings, &services, NULL), 0);
}

void close_services(Fixture *fixture) {
        services = services ? services_component.close(services) : NULL;
        close_agent(fixture);
}

static SimProbe on_probe(void *userdata, const ProbeRequest *request) {
        Fixture *fixture = userdata;

        fixture->n_probes++;
        fixture->probed_port = request->check->port;
        return fixture->probed;
}

Fixture *fixture_new(void) {
        static const SimSystemdHooks hooks = { .on_start = on_unit, .on_stop = on_unit_end };
        Fixture *fixture = NEW0(Fixture, 1);

        running = fixture;
        n_starts = n_stops = n_unrecorded = n_slow = 0;
        vain = (Vain) {};
        pretence = (Pretence) {};
        fixture->host = host_new(false);
        host_machine(fixture->host);
        fixture->world = world_new(1, false);
        fixture->loop = world_loop_new(fixture->world, "agent");
        fixture->systemd = sim_systemd_new(fixture->world, "systemd", &hooks);
        fixture->bus = sim_systemd_attach(fixture->systemd, fixture->loop);
        real_ops = fixture->bus->ops;
        fixture->prober = sim_prober_new(fixture->world, fixture->loop, on_probe, fixture);
        fixture->probed = (SimProbe) { .passed = true, .takes_ms = 5 };
        open_agent(fixture);
        return fixture;
}

void fixture_free(Fixture *fixture) {
        close_agent(fixture);
        run_ms(fixture, 50); /* calls without effect */
        sim_prober_free(fixture->prober);
        sim_systemd_detach(fixture->systemd);
        sim_systemd_free(fixture->systemd);
        world_loop_free(fixture->loop);
        world_free(fixture->world);
        host_free(fixture->host);
        free(fixture);
}

void run_ms(Fixture *fixture, uint64_t ms) {
        world_run(fixture->world, world_now_ms(fixture->world) + ms);
}

void fixture_turn(Fixture *fixture, uint64_t until_ms) {
        if (world_now_ms(fixture->world) >= until_ms)
                fail_msg("what was waited for did not come");
        run_ms(fixture, 1);
        fixture->host->deadline_ms = 0;
        host_turn(fixture->host);
}

void run_pending(Fixture *fixture) {
        for (unsigned i = 0; i < 5; i++) {
                host_pause(fixture->host, 10);
                run_ms(fixture, 2);
        }
}

void await_round(Fixture *fixture) {
        for (uint64_t planned = agent_counts(fixture->agent)->planned,
                      end_ms = world_now_ms(fixture->world) + 12000;
             agent_counts(fixture->agent)->planned - planned < fixture->n_others; run_ms(fixture, 1))
                assert_true(world_now_ms(fixture->world) < end_ms);
}

/* -- Units -- */

void assign_to(Fixture *fixture, const char *name, const char *text, AssignmentKind kind) {
        host_unit(fixture->host, name, text, kind == ASSIGNMENT_RUN ? TARGET_LAUNCHED : TARGET_LOADED);
        host_order(fixture->host, name, kind);
}

void assign(Fixture *fixture, const char *name) {
        assign_to(fixture, name, "[Service]\nExecStart=/bin/one\n", ASSIGNMENT_RUN);
}

void assign_slowly(Fixture *fixture, const char *name) {
        world_loop_set_work_ms(fixture->loop, WRITE_MS, WRITE_MS);
        assign(fixture, name);
        UNTIL(fixture, world_loop_is_working(fixture->loop));
        run_ms(fixture, WRITE_MS / 2);
}

void run_unit(Fixture *fixture, const char *name) {
        assign(fixture, name);
        UNTIL(fixture, is_published(fixture, name, "active"));
        run_pending(fixture);
}

const UnitState *state_of(Fixture *fixture, const char *unit) {
        const ClusterState *s = cluster_state(registry_cluster(fixture->host->registry), fixture->host->id,
                                              unit);

        return s ? &s->state : NULL;
}

bool is_published(Fixture *fixture, const char *unit, const char *active) {
        const UnitState *s = state_of(fixture, unit);

        return s && streq(s->active, active);
}

bool has_assignment(Fixture *fixture, const char *unit) {
        return cluster_assignment(registry_cluster(fixture->host->registry), fixture->host->id, unit);
}

bool is_gone(Fixture *fixture, const char *unit) {
        return !has_assignment(fixture, unit) && !state_of(fixture, unit);
}

static void on_key_written(void *userdata, const KvResult *result) {
        host_on_done(userdata, result->status, "", result->index);
}

static void write_key(Fixture *fixture, KvOp op, const char *key, const char *value) {
        KvCommand cmd = { .op = op, .key = kv_string(key), .value = kv_string(value), .internal = true };
        uint64_t number;

        assert_int_equal(host_wait(fixture->host, kv_propose(fixture->host->store, &cmd, on_key_written,
                                                             fixture->host, &number)),
                         KV_OK);
}

void write_adopting(Fixture *fixture, KvOp op) {
        write_key(fixture, op, "/_fleet/cluster/adopting", op == KV_SET ? "1" : "");
}

void delete_key(Fixture *fixture, LayoutKind kind, const char *unit) {
        char key[LAYOUT_KEY_MAX];

        write_key(fixture, KV_DELETE, layout_key(key, kind, unit, fixture->host->id), "");
}

/* -- Messages -- */

unsigned n_logged;

static void count_said(void *userdata, int priority, const LogFields *fields, const char *message) {
        n_logged += strstr(message, userdata) != NULL;
}

void count_messages(const char *part) {
        n_logged = 0;
        log_set_sink(part ? count_said : NULL, (void *) part);
}

/* -- systemd -- */

const SystemdOps *real_ops;
SystemdOps bent;
SystemdEvents events;

static void set_events_recorded(Systemd *s, const SystemdEvents *set) {
        events = set ? *set : (SystemdEvents) {};
        real_ops->set_events(s, set);
}

int faulty_fixture_setup(void **state) {
        Fixture *fixture;

        leader = (Leader) {};
        fixture = fixture_new();
        close_agent(fixture);
        bent = *real_ops;
        bent.list = list_pretended;
        bent.set_events = set_events_recorded;
        fixture->bus->ops = &bent;
        open_agent(fixture);
        run_pending(fixture);
        *state = fixture;
        return 0;
}

int faulty_fixture_teardown(void **state) {
        leader.gone = false;
        close_services(*state);
        assert_null(events.on_ready);
        assert_null(events.on_changed);
        assert_null(events.on_job_removed);
        fixture_free(*state);
        return 0;
}

Vain vain;
Pretence pretence;

static void on_vain_answer(void *userdata) {
        vain.done(vain.userdata, vain.error, vain.message ?: "");
}

static bool is_in_vain(const char *name) {
        if (!vain.unit || !streq(name, vain.unit))
                return false;
        assert_true(vain.n < ELEMENTS(vain.at_ms));
        vain.at_ms[vain.n++] = world_now_ms(running->world);
        return true;
}

int take_in_vain(SystemdDone done, void *userdata) {
        vain.done = done;
        vain.userdata = userdata;
        if (!vain.held)
                world_at(running->world, 1, NULL, on_vain_answer, NULL);
        return 0;
}

int start_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return is_in_vain(name) ? take_in_vain(done, userdata) : real_ops->start(s, name, done, userdata);
}

int stop_in_vain(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        return is_in_vain(name) ? take_in_vain(done, userdata) : real_ops->stop(s, name, done, userdata);
}

int link_in_vain(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        return is_in_vain(names[0]) ? take_in_vain(done, userdata) :
                                      real_ops->link(s, names, n, done, userdata);
}

int unlink_in_vain(Systemd *s, const char *const *names, size_t n, SystemdDone done, void *userdata) {
        return is_in_vain(names[0]) ? take_in_vain(done, userdata) :
                                      real_ops->unlink(s, names, n, done, userdata);
}

int write_in_vain(Systemd *s, const char *name, const char *text, size_t size) {
        return is_in_vain(name) ? vain.error : real_ops->write_file(s, name, text, size);
}

void until_calls(Fixture *fixture, unsigned n, uint64_t ms) {
        for (uint64_t end_ms = world_now_ms(fixture->world) + ms; vain.n < n; run_ms(fixture, 10))
                assert_true(world_now_ms(fixture->world) < end_ms);
}

typedef struct Listing {
        SystemdListed done;
        void *userdata;
} Listing;

static void on_pretended(void *userdata, int error, const SystemdUnit *units, size_t n) {
        Listing *listing = userdata;
        SystemdUnit *changed = NEW0(SystemdUnit, n + 1);

        assert_non_null(changed);
        for (size_t i = 0; i < n; i++) {
                changed[i] = units[i];
                if (!pretence.unit || !streq(units[i].name, pretence.unit))
                        continue;
                if (pretence.active) {
                        snprintf(changed[i].active, sizeof(changed[i].active), "%s", pretence.active);
                        snprintf(changed[i].sub, sizeof(changed[i].sub), "%s",
                                 streq(pretence.active, "active") ? "running" : "dead");
                        changed[i].end = pretence.end;
                        changed[i].held = pretence.held;
                }
                if (pretence.change)
                        pretence.change(&changed[i]);
        }
        listing->done(listing->userdata, pretence.error ? pretence.error : error, changed,
                      pretence.error ? 0 : n);
        free(changed);
        free(listing);
}

int list_pretended(Systemd *s, const char *const *names, size_t n, bool all, SystemdListed done,
                   void *userdata) {
        Listing *listing = NEW0(Listing, 1);
        int r;

        assert_non_null(listing);
        *listing = (Listing) { done, userdata };
        r = real_ops->list(s, names, n, all, on_pretended, listing);
        if (r < 0)
                free(listing);
        return r;
}
