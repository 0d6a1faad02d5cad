/* The contents of the units of a host: resolved, sealed, written, and in force in starts, reloads and
 * restarts of the agent, with a systemd in virtual time. */
#include "tests/lib/test.h"
#include "base/file.h"
#include "fleetd/features/inputs/inputs_internal.h"
#include "tests/lib/agent_fixture.h"
#include "tests/lib/fake_sealer.h"
#include "tests/lib/leader.h"
#include "tests/lib/scratch.h"
#include "tests/lib/side_by_side.h"

#define TEXT(program, options) \
        "[Service]\nExecStart=/bin/" program "\nExecReload=/bin/true\n[X-Fleet]\n" options
#define INPUTS(on_change) "Secret=pw\nConfigKeys=/shop\nOnChange=" on_change "\n"
#define WEB               "web.service"

enum { FOLDERS_MAX = 4, RESOLVE_MS = 5, PUT_MS = 20, LATER_MS = 20 };

extern const Component inputs_component;

/* -- Doubles of the other parts of the component -- */

int __wrap_watcher_new(Watcher **ret, ComponentHost *host);
Watcher *__wrap_watcher_free(Watcher *w);
int __wrap_watcher_step(Control *control);
void __wrap_inputs_append_drop_in(Text *t, const Unit *text);
void __wrap_content_append_environment(Text *t, const Content *content, bool container);
int __wrap_resolver_new(Resolver **ret, ComponentHost *host);
Resolver *__wrap_resolver_free(Resolver *r);
int __wrap_resolver_begin(Resolver *r, const Unit *text, uint64_t index, ResolverDone *done, void *userdata);
void __wrap_resolver_cancel(Resolver *r, const char *unit);

int __wrap_watcher_new(Watcher **ret, ComponentHost *host) {
        return 0;
}

Watcher *__wrap_watcher_free(Watcher *w) {
        return NULL;
}

int __wrap_watcher_step(Control *control) {
        return 0;
}

void __wrap_inputs_append_drop_in(Text *t, const Unit *text) {
        char folder[INPUTS_FOLDER_SIZE];

        inputs_folder(text, folder);
        text_printf(t, "%zu secrets in %s", text->placement.inputs.secrets.n, folder);
}

void __wrap_content_append_environment(Text *t, const Content *content, bool container) {
        text_printf(t, "%s %zu", container ? "raw" : "quoted", content->n_variables);
}

/* What is resolved: one secret, and one file. */
static struct {
        const char *digest, *secret;
        VerdictCode problem;
        bool unreadable;    /* it cannot be read for now */
        int refused;        /* what resolver_begin() returns */
        uint64_t ms;        /* that it takes */
        unsigned n;         /* calls */
        uint64_t index;     /* of the last one */
        char secrets[64];   /* names in its text */
        ResolverDone *done; /* under way */
        void *userdata;
        Timer timer;
} source;

static void on_source(void *timer) {
        char digest[UNIT_HASH_SIZE];
        ContentItem secret = { (char *) "pw", source.secret, strlen(source.secret) },
                    file = { (char *) "a/b", "value", 5 };
        Resolved r = { .content = {
                               .credentials = &secret, .n_credentials = 1, .files = &file, .n_files = 1 } };
        ResolverDone *done = source.done;

        memset(digest, source.digest[0], sizeof(digest) - 1);
        digest[sizeof(digest) - 1] = 0;
        memcpy(r.content.digest, digest, sizeof(digest));
        verdict_set(&r.content.problem, source.problem, "%s", "pw");
        source.done = NULL;
        done(source.userdata, source.unreadable ? NULL : &r);
}

int __wrap_resolver_new(Resolver **ret, ComponentHost *host) {
        return 0;
}

Resolver *__wrap_resolver_free(Resolver *r) {
        return NULL;
}

int __wrap_resolver_begin(Resolver *r, const Unit *text, uint64_t index, ResolverDone *done, void *userdata) {
        const Names *secrets = &text->placement.inputs.secrets;

        assert_null(source.done);
        source.n++;
        source.index = index;
        snprintf(source.secrets, sizeof(source.secrets), "%s%s", secrets->items[0],
                 secrets->n > 1 ? secrets->items[1] : "");
        if (source.refused < 0)
                return source.refused;
        source.done = done;
        source.userdata = userdata;
        source.timer = TIMER(on_source, NULL);
        return timer_start(&source.timer, world_loop(running->loop), source.ms);
}

void __wrap_resolver_cancel(Resolver *r, const char *unit) {
        assert_non_null(source.done);
        timer_stop(&source.timer);
        source.done = NULL;
}

/* -- The files of the host -- */

static struct { char unit[64], text[128]; } drop_ins[FOLDERS_MAX];

static char *drop_in_of(const char *unit) {
        size_t i = 0;

        while (i < FOLDERS_MAX - 1 && drop_ins[i].unit[0] && !streq(drop_ins[i].unit, unit))
                i++;
        snprintf(drop_ins[i].unit, sizeof(drop_ins[i].unit), "%s", unit);
        return drop_ins[i].text;
}

static struct {
        InputFiles base;
        struct {
                char name[64], environment[32], credential[64], file[32];
                InputFileState state, copy; /* in memory, and on disk */
        } folders[FOLDERS_MAX];
        unsigned n_puts, n_restored;
        int error;            /* of the next writes */
        const char *restarts; /* the unit that systemd restarts right before the next one ends */
        size_t at;            /* being written */
        InputFileState next;
        InputFilesDone *done;
        void *userdata;
        Timer timer;
} disk;

static size_t folder_of(const char *name) {
        size_t i = 0;

        while (i < FOLDERS_MAX && !streq(disk.folders[i].name, name))
                i++;
        return i;
}

static void on_put(void *timer) {
        InputFilesDone *done = disk.done;

        disk.done = NULL;
        if (disk.restarts)
                sim_systemd_restart(running->systemd, disk.restarts);
        disk.restarts = NULL;
        if (disk.error == 0)
                disk.folders[disk.at].state = disk.folders[disk.at].copy = disk.next;
        done(disk.userdata, disk.error, disk.error < 0 ? "no space left" : "");
}

static int disk_put(InputFiles *f, const InputFileSet *set, InputFilesDone *done, void *userdata) {
        size_t i = folder_of(set->folder);

        assert_null(disk.done);
        i = i < FOLDERS_MAX ? i : folder_of("");
        assert_true(i < FOLDERS_MAX);
        assert_int_equal(set->n_credentials, 1);
        assert_int_equal(set->n_files, 1);
        assert_int_equal(strlen(set->digest), 40);
        snprintf(disk.folders[i].name, sizeof(disk.folders[i].name), "%s", set->folder);
        snprintf(disk.folders[i].environment, sizeof(disk.folders[i].environment), "%s", set->environment);
        snprintf(disk.folders[i].credential, sizeof(disk.folders[i].credential), "%s:%.*s",
                 set->credentials[0].name, (int) set->credentials[0].size,
                 (const char *) set->credentials[0].value);
        snprintf(disk.folders[i].file, sizeof(disk.folders[i].file), "%s:%.*s", set->files[0].name,
                 (int) set->files[0].size, (const char *) set->files[0].value);
        disk.n_puts++;
        disk.at = i;
        disk.next = (InputFileState) { .number = set->number };
        snprintf(disk.next.digest, sizeof(disk.next.digest), "%s", set->digest);
        disk.done = done;
        disk.userdata = userdata;
        disk.timer = TIMER(on_put, NULL);
        return timer_start(&disk.timer, world_loop(running->loop), PUT_MS);
}

static bool disk_check(InputFiles *f, const char *folder, const Names *credentials) {
        size_t i = folder_of(folder);

        return i < FOLDERS_MAX && disk.folders[i].state.number > 0;
}

static int disk_restore(InputFiles *f, const char *folder, InputFileState *ret) {
        size_t i = folder_of(folder);

        if (i == FOLDERS_MAX || disk.folders[i].copy.number == 0)
                return -ENOENT;
        *ret = disk.folders[i].state = disk.folders[i].copy;
        disk.n_restored++;
        return 0;
}

static int disk_list(InputFiles *f, char ***ret, size_t *ret_n) {
        *ret = NEW0(char *, FOLDERS_MAX);
        for (size_t i = 0; i < FOLDERS_MAX; i++)
                if (disk.folders[i].name[0])
                        (*ret)[(*ret_n)++] = strdup(disk.folders[i].name);
        return 0;
}

static int disk_remove(InputFiles *f, const char *folder) {
        size_t i = folder_of(folder);

        if (i == FOLDERS_MAX)
                return -ENOENT;
        memset(&disk.folders[i], 0, sizeof(disk.folders[i]));
        return 0;
}

static const InputFilesOps disk_ops = { disk_put, disk_check, disk_restore, disk_list, disk_remove };

/* The number of the content that the unit would start with: that of the folder in its drop-in; 0: none. */
static uint64_t on_disk(const char *unit) {
        char name[INPUTS_NAME_SIZE];

        inputs_name(unit, name);
        for (size_t i = 0; i < FOLDERS_MAX; i++)
                if (disk.folders[i].name[0] && starts_with(disk.folders[i].name, name) &&
                    strstr(drop_in_of(unit), disk.folders[i].name))
                        return disk.folders[i].state.number;
        return 0;
}

/* How many folders there are. */
static unsigned n_folders(void) {
        unsigned n = 0;

        for (size_t i = 0; i < FOLDERS_MAX; i++)
                n += disk.folders[i].name[0] != 0;
        return n;
}

/* -- A host -- */

static FakeSealer sealer;
static void *component;
static unsigned n_early, n_reloads; /* starts without files */
static int reload_error;            /* of the next reloads */

static int put_drop_in(Systemd *s, const char *name, DropIn feature, const char *sections) {
        if (feature == DROP_IN_INPUTS)
                snprintf(drop_in_of(name), sizeof(drop_ins[0].text), "%s", sections ?: "");
        return real_ops->put_drop_in(s, name, feature, sections);
}

static int start_checked(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_early += on_disk(name) == 0;
        return real_ops->start(s, name, done, userdata);
}

static int reload_counted(Systemd *s, const char *name, SystemdDone done, void *userdata) {
        n_reloads++;
        return reload_error < 0 ? reload_error : real_ops->reload_unit(s, name, done, userdata);
}

static void open_host(void) {
        static const Component *const components[] = { &inputs_component, NULL };

        running->host->components.components = components;
        running->host->components.selves = &component;
        open_agent(running);
        running->components.agent = running->agent;
        assert_int_equal(
                inputs_component.open(&running->components, &running->host->settings, &component, NULL), 0);
}

static void close_host(void) {
        component = component ? inputs_component.close(component) : NULL;
        if (disk.done) { /* the loop waits for its work */
                timer_stop(&disk.timer);
                on_put(NULL);
        }
        close_agent(running);
}

static void reopen(void) {
        close_host();
        open_host();
        run_pending(running);
        run_ms(running, 2000);
        run_pending(running);
}

static int setup(void **state) {
        int r = faulty_fixture_setup(state);

        source = (typeof(source)) { .digest = "a", .secret = "hunter2", .ms = RESOLVE_MS };
        memset(&disk, 0, sizeof(disk));
        disk.base.ops = &disk_ops;
        fake_sealer_init(&sealer, world_loop(running->loop), 0x80); /* it changes no byte */
        memset(drop_ins, 0, sizeof(drop_ins));
        n_early = n_reloads = 0;
        reload_error = 0;
        running->host->components.io.input_files = &disk.base;
        running->host->components.io.input_sealer = &sealer.base;
        bent.put_drop_in = put_drop_in;
        bent.start = start_checked;
        bent.reload_unit = reload_counted;
        close_host();
        host_raise(running->host, KV_LEVEL_INPUTS);
        open_host();
        run_pending(running);
        return r;
}

static int teardown(void **state) {
        assert_int_equal(n_early, 0);
        close_host();
        assert_null(source.done);
        assert_null(sealer.done);
        assert_null(disk.done);
        return faulty_fixture_teardown(state);
}

#define AWAIT(expression) UNTIL(running, expression)
/* The same for what comes seconds later, with a retry or a slow disk: a turn takes real time. */
#define AWAIT_LATER(expression) UNTIL(running, (expression) || (run_ms(running, LATER_MS), false))

static void rest(void) {
        run_pending(running);
        run_ms(running, 3000);
        run_pending(running);
}

static void submit(const char *unit, const char *text, uint64_t number) {
        assign_to(running, unit, text, ASSIGNMENT_RUN);
        if (number > 0)
                host_assign_inputs(running->host, unit, number);
}

/* The unit runs with content 1. */
static void run_web(const char *text) {
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        submit(WEB, text, 1);
        AWAIT(is_published(running, WEB, "active"));
        rest();
        assert_int_equal(state_of(running, WEB)->inputs, 1);
        assert_int_equal(n_starts, 1);
}

/* The content changes: its key has this number. */
static void change_content(const char *digest, uint64_t number) {
        source.digest = digest;
        host_inputs(running->host, WEB, number, VERDICT_NONE);
}

static bool is_waiting(const char *reason) {
        const UnitState *s = state_of(running, WEB);

        return s && streq(s->active, "inactive") && same_string(s->reason, reason);
}

static void a_unit_starts_when_its_content_is_in_files(void **state) {
        const ClusterUnit *u;

        submit(WEB, TEXT("web", INPUTS("none")), 0);
        rest();
        assert_int_equal(source.n, 0); /* the leader has not built it yet */
        assert_int_equal(n_starts, 0);
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        AWAIT(is_published(running, WEB, "active"));
        u = cluster_any_unit(registry_cluster(running->host->registry), WEB);
        assert_int_equal(source.index, u->inputs_index);
        assert_int_equal(source.n, 1);
        assert_int_equal(disk.n_puts, 1);
        assert_string_equal(disk.folders[0].credential, "pw:pw host\nhunter2");
        assert_string_equal(disk.folders[0].file, "a/b:value");
        assert_string_equal(disk.folders[0].environment, "quoted 0");
        assert_true(starts_with(drop_in_of(WEB), "1 secrets in " WEB "~"));
        assert_true(records_contain(running, "\"inputs\":1"));
        assert_int_equal(state_of(running, WEB)->inputs, 1);
}

/* The assignment is older than the key. */
static void a_new_unit_with_restarts_starts_once(void **state) {
        submit(WEB, TEXT("web", INPUTS("restart")), 0);
        rest();
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        AWAIT(is_published(running, WEB, "active"));
        assert_int_equal(state_of(running, WEB)->inputs, 1);
        host_assign_inputs(running->host, WEB, 1);
        rest();
        assert_int_equal(n_starts, 1);
        assert_int_equal(n_stops, 0);
}

/* It was destroyed, and submitted again before its host has seen that: its files have another content. */
static void a_unit_of_a_former_name_starts_with_its_own_content(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        host_order(running->host, WEB, ASSIGNMENT_LOAD);
        AWAIT(is_published(running, WEB, "inactive"));
        host_inputs(running->host, WEB, 0, VERDICT_NONE);
        submit(WEB, TEXT("web", INPUTS("restart")), 0);
        rest();
        assert_int_equal(n_starts, 1);
        change_content("b", 2);
        AWAIT(is_published(running, WEB, "active"));
        rest();
        assert_int_equal(state_of(running, WEB)->inputs, 2);
        assert_int_equal(disk.n_puts, 2);
        assert_int_equal(n_starts, 2);
}

static void a_secret_that_is_set_starts_the_unit_at_once(void **state) {
        uint64_t ms;

        source.problem = VERDICT_AWAITS_SECRET;
        host_inputs(running->host, WEB, 1, VERDICT_AWAITS_SECRET);
        submit(WEB, TEXT("web", INPUTS("restart")), 0);
        run_ms(running, 20000);
        run_pending(running);
        assert_in_range(source.n, 4, 6); /* after 1, 2, 4 and 8 s */
        assert_true(is_waiting(NULL));
        source.problem = VERDICT_NONE;
        ms = world_now_ms(running->world);
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        AWAIT(n_starts == 1);
        assert_in_range(world_now_ms(running->world) - ms, 0, 500);
}

static void what_this_host_cannot_do_is_published_and_tried_again(void **state) {
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        sealer.broken = true;
        submit(WEB, TEXT("web", INPUTS("none")), 1);
        AWAIT(is_waiting("cannot seal pw: it is broken"));
        assert_int_equal(state_of(running, WEB)->code, VERDICT_SECRET_UNSEALED);
        AWAIT_LATER(sealer.sealed == 3);
        assert_int_equal(disk.n_puts, 0);
        sealer.broken = false;
        disk.error = -ENOSPC;
        AWAIT_LATER(is_waiting("its secrets and configuration cannot be written: no space left"));
        assert_int_equal(state_of(running, WEB)->code, VERDICT_INPUTS_UNWRITTEN);
        disk.error = 0;
        AWAIT_LATER(is_published(running, WEB, "active"));
        assert_null(state_of(running, WEB)->reason);
        assert_int_equal(state_of(running, WEB)->code, VERDICT_NONE);
}

static bool is_running_despite(VerdictCode code, const char *reason) {
        const UnitState *s = state_of(running, WEB);

        return streq(s->active, "active") && s->code == code && same_string(s->reason, reason);
}

/* The present content of the unit cannot be sealed, then not be written, then it can. */
static void fail_to_provide(const char *text, unsigned stops, unsigned reloads) {
        run_web(text);
        sealer.broken = true;
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(is_running_despite(VERDICT_SECRET_UNSEALED, "cannot seal pw: it is broken"));
        sealer.broken = false;
        disk.error = -ENOSPC;
        AWAIT_LATER(is_running_despite(VERDICT_INPUTS_UNWRITTEN,
                                       "its secrets and configuration cannot be written: no space left"));
        assert_int_equal(n_stops + n_reloads, 0);
        disk.error = 0;
        AWAIT_LATER(is_running_despite(VERDICT_NONE, NULL));
        rest();
        assert_int_equal(on_disk(WEB), 2);
        assert_true(is_running_despite(VERDICT_NONE, NULL));
        assert_int_equal(n_stops, stops);
        assert_int_equal(n_reloads, reloads);
}

/* Otherwise, only the journal of its host would say so. */
static void why_a_running_unit_is_not_restarted_with_its_new_content_is_published(void **state) {
        fail_to_provide(TEXT("web", INPUTS("restart")), 1, 0);
}

static void why_a_running_unit_is_not_reloaded_with_its_new_content_is_published(void **state) {
        fail_to_provide(TEXT("web", INPUTS("reload")), 0, 1);
}

static void why_the_files_of_a_running_unit_stay_is_published(void **state) {
        fail_to_provide(TEXT("web", INPUTS("none")), 0, 0);
}

/* As in a cluster that was restored. */
static void the_failure_of_a_content_that_is_not_to_be_had_any_more_is_not_published(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        sealer.broken = true;
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(is_running_despite(VERDICT_SECRET_UNSEALED, "cannot seal pw: it is broken"));
        host_assign_inputs(running->host, WEB, 1);
        AWAIT(is_running_despite(VERDICT_NONE, NULL));
        assert_int_equal(n_starts, 1);
}

/* The lists of the next text differ, and so do its files. */
static void why_a_unit_keeps_its_former_text_is_published(void **state) {
        run_web(TEXT("web", INPUTS("none")));
        sealer.broken = true;
        submit(WEB, TEXT("web", "Secret=pw\nSecret=other\nConfigKeys=/shop\n"), 1);
        AWAIT(is_running_despite(VERDICT_SECRET_UNSEALED, "cannot seal pw: it is broken"));
        sealer.broken = false;
        AWAIT_LATER(n_starts == 2);
        rest();
        assert_true(is_running_despite(VERDICT_NONE, NULL));
}

static void what_the_leader_finds_is_not_published_by_the_host(void **state) {
        source.problem = VERDICT_SECRET_OF_OTHERS;
        host_inputs(running->host, WEB, 1, VERDICT_SECRET_OF_OTHERS);
        submit(WEB, TEXT("web", INPUTS("none")), 1);
        AWAIT_LATER(source.n == 3);
        rest();
        assert_true(is_waiting(NULL));
        sealer.broken = true;
        source.problem = VERDICT_NONE;
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        AWAIT(is_waiting("cannot seal pw: it is broken"));
}

static void without_a_sealer_or_files_no_unit_with_secrets_starts(void **state) {
        running->host->components.io.input_sealer = NULL;
        reopen();
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        submit(WEB, TEXT("web", INPUTS("none")), 1);
        AWAIT(is_waiting("cannot seal pw: Operation not supported"));
        running->host->components.io.input_files = NULL;
        reopen();
        AWAIT(is_waiting("its secrets and configuration cannot be written: Operation not supported"));
        assert_int_equal(n_starts, 0);
}

static void a_new_content_restarts_a_unit_once_and_not_before_it_is_there(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        source.unreadable = true;
        change_content("b", 2);
        rest();
        assert_int_equal(source.n, 1); /* its assignment decides */
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(source.n == 3 && !source.done);
        source.unreadable = false;
        source.refused = -EAGAIN;
        AWAIT_LATER(source.n == 4);
        rest();
        assert_int_equal(n_stops, 0);
        assert_int_equal(on_disk(WEB), 1);
        source.refused = 0;
        AWAIT_LATER(n_starts == 2);
        AWAIT(state_of(running, WEB)->inputs == 2);
        assert_int_equal(on_disk(WEB), 2);
        rest();
        reopen();
        assert_int_equal(n_starts, 2);
        assert_int_equal(n_stops, 1);
}

static void a_start_waits_for_a_content_that_is_assigned_while_its_record_is_saved(void **state) {
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        world_loop_set_work_ms(running->loop, WRITE_MS, WRITE_MS);
        submit(WEB, TEXT("web", INPUTS("restart")), 1);
        AWAIT(world_loop_is_working(running->loop));
        source.ms = 8000;
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        rest();
        assert_int_equal(n_starts, 0);
        AWAIT_LATER(is_published(running, WEB, "active"));
        assert_int_equal(state_of(running, WEB)->inputs, 2);
        assert_int_equal(n_starts, 1);
}

/* So it needs no reload for that. */
static void a_start_has_the_content_that_came_while_its_record_was_saved(void **state) {
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        world_loop_set_work_ms(running->loop, WRITE_MS, WRITE_MS);
        submit(WEB, TEXT("web", INPUTS("reload")), 1);
        AWAIT(world_loop_is_working(running->loop));
        change_content("b", 2);
        AWAIT(on_disk(WEB) == 2);
        assert_int_equal(n_starts, 0);
        AWAIT_LATER(is_published(running, WEB, "active"));
        rest();
        assert_int_equal(state_of(running, WEB)->inputs, 2);
        assert_int_equal(n_reloads, 0);
}

static void an_equal_content_is_not_written_again(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        change_content("a", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(n_starts == 2);
        AWAIT(state_of(running, WEB)->inputs == 2);
        assert_int_equal(disk.n_puts, 1);
        assert_int_equal(sealer.sealed, 1);
}

/* The records were lost, or are of a daemon that knows no contents. */
static void a_unit_whose_content_is_not_known_runs_on(void **state) {
        _cleanup_free_ char *path = scratch_path(running->host->agent_path, "assignment");

        run_web(TEXT("web", INPUTS("restart")));
        for (unsigned lost = 0; lost < 2; lost++) {
                close_host();
                if (lost)
                        assert_int_equal(unlink(path), 0);
                else
                        change_record(running, "\"inputs\":", "0");
                open_host();
                run_ms(running, FIXTURE_BOOT_WAIT_MS);
                rest();
                assert_int_equal(n_starts, 1);
                assert_int_equal(n_stops, 0);
                assert_int_equal(state_of(running, WEB)->inputs, 1);
        }
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(n_starts == 2);
        AWAIT(state_of(running, WEB)->inputs == 2);
        rest();
        assert_int_equal(n_stops, 1);
}

/* The files on disk are of the number before; that of the record is higher. */
static void a_new_daemon_touches_no_unit_and_writes_nothing(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        change_content("a", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(state_of(running, WEB)->inputs == 2);
        reopen();
        assert_int_equal(disk.n_restored, 1);
        assert_int_equal(state_of(running, WEB)->inputs, 2);
        assert_int_equal(n_starts, 2);
        assert_int_equal(disk.n_puts, 1);
}

static void files_of_a_unit_that_is_not_restarted_are_replaced_at_once(void **state) {
        run_web(TEXT("web", INPUTS("none")));
        change_content("b", 2);
        AWAIT(on_disk(WEB) == 2);
        rest();
        assert_int_equal(n_starts, 1);
        assert_int_equal(n_reloads, 0);
        assert_int_equal(state_of(running, WEB)->inputs, 1);
        sim_systemd_restart(running->systemd, WEB);
        AWAIT(state_of(running, WEB)->inputs == 2);
}

/* It may have had the former files. */
static void a_unit_that_systemd_restarts_right_before_its_files_are_replaced_is_restarted(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        disk.restarts = WEB;
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(n_starts == 2);
        AWAIT(state_of(running, WEB)->inputs == 2);
        rest();
        assert_int_equal(n_starts, 2);
}

static void ignore_reply(void *userdata, int error, const char *message) {}

static void new_files_reload_a_unit_once(void **state) {
        run_web(TEXT("web", INPUTS("reload")));
        assert_int_equal(n_reloads, 0);
        change_content("b", 2);
        AWAIT(n_reloads == 1);
        assert_int_equal(on_disk(WEB), 2);
        AWAIT(state_of(running, WEB)->inputs == 2);
        rest();
        reopen();
        assert_int_equal(n_reloads, 1);
        assert_int_equal(n_starts, 1);

        sim_systemd_end(running->systemd, WEB); /* its next start has the content that comes meanwhile */
        AWAIT(is_published(running, WEB, "failed"));
        change_content("c", 3);
        AWAIT(on_disk(WEB) == 3);
        rest();
        assert_int_equal(real_ops->start(running->bus, WEB, ignore_reply, NULL), 0);
        AWAIT(state_of(running, WEB)->inputs == 3);
        rest();
        assert_int_equal(n_reloads, 1);
}

static void a_reload_that_fails_is_not_repeated_for_its_content(void **state) {
        run_web(TEXT("web", INPUTS("reload")));
        reload_error = -EIO;
        change_content("b", 2);
        AWAIT(n_reloads == 1);
        run_ms(running, 20000);
        run_pending(running);
        assert_int_equal(n_reloads, 1);
        assert_int_equal(state_of(running, WEB)->inputs, 2);
        assert_false(records_contain(running, "\"reloading\":true"));
        reload_error = -ETIMEDOUT; /* it may not have begun */
        change_content("c", 3);
        AWAIT(n_reloads == 3);
        reload_error = 0;
        AWAIT(state_of(running, WEB)->inputs == 3);
        rest();
        assert_int_equal(n_starts, 1);
}

static void a_text_that_only_restarts_for_contents_restarts_nothing_before_the_next_one(void **state) {
        run_web(TEXT("web", INPUTS("none")));
        change_content("b", 2);
        AWAIT(on_disk(WEB) == 2);
        host_unit(running->host, WEB, TEXT("web", INPUTS("restart")), TARGET_LAUNCHED);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(state_of(running, WEB)->inputs == 2);
        rest();
        assert_int_equal(n_starts, 1);
        assert_int_equal(n_stops, 0);
        change_content("c", 3);
        host_assign_inputs(running->host, WEB, 3);
        AWAIT(n_starts == 2);
        AWAIT(state_of(running, WEB)->inputs == 3);
}

static void a_failed_unit_is_started_with_a_new_content(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        sim_systemd_end(running->systemd, WEB);
        AWAIT(is_published(running, WEB, "failed"));
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(is_published(running, WEB, "active"));
        assert_int_equal(state_of(running, WEB)->inputs, 2);
        assert_int_equal(n_starts, 2);
}

static void a_unit_runs_on_until_its_next_text_has_its_own_content(void **state) {
        run_web(TEXT("web", INPUTS("none")));
        source.problem = VERDICT_AWAITS_SECRET;
        submit(WEB, TEXT("next", "Secret=pw\nSecret=other\n"), 1);
        AWAIT(source.n == 3);
        assert_string_equal(source.secrets, "pwother");
        rest();
        assert_int_equal(n_stops, 0);
        source.problem = VERDICT_NONE;
        AWAIT(n_stops == 1);
        assert_int_equal(disk.n_puts, 2); /* although the number is the same */
        assert_int_equal(n_folders(), 2); /* until then, systemd restarts it with its former files */
        assert_int_equal(on_disk(WEB), 1);
        AWAIT(n_starts == 2);
        AWAIT(n_folders() == 1);
        assert_true(starts_with(drop_in_of(WEB), "2 secrets in "));
        rest();
        assert_int_equal(n_stops, 1);
        submit(WEB, TEXT("web", INPUTS("none")), 1); /* and back */
        AWAIT(n_starts == 3);
        assert_string_equal(source.secrets, "pw");
        assert_int_equal(disk.n_puts, 3);
}

static void a_text_and_a_content_that_change_together_are_tried_as_one(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        source.problem = VERDICT_AWAITS_SECRET;
        change_content("b", 2);
        submit(WEB, TEXT("next", INPUTS("restart")), 2);
        run_ms(running, 20000);
        run_pending(running);
        assert_in_range(source.n, 5, 7); /* after 1, 2, 4 and 8 s */
        source.problem = VERDICT_NONE;
        host_inputs(running->host, WEB, 2, VERDICT_NONE);
        AWAIT(n_starts == 2);
        assert_int_equal(n_stops, 1);
}

static void the_former_content_stays_in_force_while_there_is_a_problem(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        source.problem = VERDICT_AWAITS_KEYS;
        host_inputs(running->host, WEB, 1, VERDICT_AWAITS_KEYS);
        host_order(running->host, WEB, ASSIGNMENT_LOAD);
        AWAIT(is_published(running, WEB, "inactive"));
        submit(WEB, TEXT("web", INPUTS("restart")), 1);
        AWAIT(n_starts == 2);
        reopen();
        assert_int_equal(n_starts, 2);
        assert_int_equal(source.n, 1);
}

static void boot(void) {
        close_host();
        sim_systemd_power_cut(running->systemd);
        for (size_t i = 0; i < FOLDERS_MAX; i++)
                disk.folders[i].state = (InputFileState) {};
        change_record(running, "\"startedBoot\":\"", "b0000000000000000000000000000000");
        memset(drop_ins, 0, sizeof(drop_ins));
        open_host();
}

static void a_host_that_boots_alone_starts_units_with_the_content_that_it_has(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        leader.gone = true;
        boot();
        run_ms(running, FIXTURE_BOOT_WAIT_MS + START_MS);
        AWAIT(n_starts == 2);
        assert_int_equal(source.n, 1);
        assert_int_equal(disk.n_restored, 1);
        leader.gone = false;
        AWAIT(is_published(running, WEB, "active"));
        rest();
        assert_int_equal(state_of(running, WEB)->inputs, 1);
        assert_int_equal(n_starts, 2);
}

/* The next text names no inputs, so that the unit has no key any more. */
static void after_a_boot_a_unit_has_its_content_until_it_gets_a_text_without_inputs(void **state) {
        const ClusterUnit *u;
        Unit *text = NULL;

        run_web(TEXT("web", INPUTS("restart")));
        u = cluster_unit(registry_cluster(running->host->registry), WEB);
        assert_int_equal(unit_read(WEB, u->unit->text, u->unit->text_size, &text, NULL), 0);
        host_unit(running->host, WEB, TEXT("web", ""), TARGET_LAUNCHED);
        host_inputs(running->host, WEB, 0, VERDICT_NONE);
        host_order_text(running->host, WEB, ASSIGNMENT_RUN, 1, text->hash);
        rest();
        unit_free(text);
        assert_int_equal(n_stops, 0);
        boot();
        AWAIT(n_starts == 2);
        rest();
        assert_int_equal(source.n, 1);
        assert_int_equal(state_of(running, WEB)->inputs, 1);
}

/* It starts once, also if it fails. */
static void after_a_boot_a_unit_has_its_former_content_while_the_assigned_one_has_a_problem(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        source.problem = VERDICT_AWAITS_KEYS;
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(source.n == 2);
        rest();
        assert_int_equal(n_stops, 0);
        boot();
        AWAIT(n_starts == 2);
        AWAIT(is_published(running, WEB, "active"));
        assert_int_equal(state_of(running, WEB)->inputs, 1);
        sim_systemd_end(running->systemd, WEB);
        AWAIT(is_published(running, WEB, "failed"));
        rest();
        assert_int_equal(n_starts, 2);
        source.problem = VERDICT_NONE;
        AWAIT_LATER(n_starts == 3);
        AWAIT(state_of(running, WEB)->inputs == 2);
}

/* The other unit is not started for that. */
static void a_unit_that_stopped_for_another_has_its_former_content_while_there_is_a_problem(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        source.problem = VERDICT_AWAITS_KEYS;
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(source.n == 2);
        sim_systemd_hold(running->systemd);
        AWAIT(is_published(running, WEB, "inactive"));
        rest();
        assert_int_equal(n_starts, 1);
        sim_systemd_release(running->systemd);
        AWAIT(n_starts == 2);
        AWAIT(is_published(running, WEB, "active"));
        rest();
        assert_int_equal(state_of(running, WEB)->inputs, 1);
        assert_int_equal(n_starts, 2);
        source.problem = VERDICT_NONE;
        AWAIT_LATER(n_starts == 3);
        AWAIT(state_of(running, WEB)->inputs == 2);
}

static void the_files_of_a_unit_are_removed_with_it(void **state) {
        run_web(TEXT("web", INPUTS("none")));
        host_order(running->host, WEB, ASSIGNMENT_STOP);
        AWAIT(is_gone(running, WEB) && on_disk(WEB) == 0);
}

static void a_unit_is_removed_while_its_content_is_brought(void **state) {
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        sealer.delay_ms = 10;
        for (unsigned stage = 0; stage < 3; stage++) {
                submit(WEB, TEXT("web", INPUTS("none")), 1);
                AWAIT(stage == 0 ? source.done != NULL :
                      stage == 1 ? sealer.done != NULL :
                                   disk.done != NULL);
                host_order(running->host, WEB, ASSIGNMENT_STOP);
                AWAIT(is_gone(running, WEB));
                rest();
        }
        assert_int_equal(n_starts, 0);
        assert_int_equal(on_disk(WEB), 0);
}

static void a_daemon_ends_while_a_content_is_brought(void **state) {
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        submit(WEB, TEXT("web", INPUTS("none")), 1);
        AWAIT(disk.done != NULL);
        close_host();
        assert_int_equal(n_folders(), 1);
        open_host();
        AWAIT(is_published(running, WEB, "active"));
}

static void what_no_unit_has_any_more_is_removed_at_the_start(void **state) {
        run_web(TEXT("web", INPUTS("none")));
        close_host();
        snprintf(disk.folders[1].name, sizeof(disk.folders[1].name), "old+3Ax.service~01234567");
        snprintf(disk.folders[2].name, sizeof(disk.folders[2].name), "no+unit");
        snprintf(disk.folders[3].name, sizeof(disk.folders[3].name), WEB "~0a1b2c3d"); /* of a former text */
        disk.folders[1].copy.number = disk.folders[3].copy.number = 3;
        open_host();
        AWAIT(!disk.folders[1].name[0] && !disk.folders[3].name[0]);
        rest();
        assert_int_equal(on_disk(WEB), 1);
        assert_int_equal(n_starts, 1);
        assert_string_equal(disk.folders[2].name, "no+unit");
}

static void a_text_without_inputs_has_no_files(void **state) {
        run_web(TEXT("web", INPUTS("none")));
        submit(WEB, TEXT("web", ""), 0);
        AWAIT(n_starts == 2);
        AWAIT(n_folders() == 0 && state_of(running, WEB)->inputs == 0);
}

/* The numbers of the restored cluster begin below. */
static void a_content_of_a_restored_cluster_is_read_again_and_later_ones_restart(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        change_content("b", 5);
        host_assign_inputs(running->host, WEB, 5);
        AWAIT(state_of(running, WEB)->inputs == 5);
        change_content("a", 2);
        host_assign_inputs(running->host, WEB, 2);
        AWAIT(state_of(running, WEB)->inputs == 2 && on_disk(WEB) == 2);
        rest();
        assert_int_equal(n_starts, 2);
        change_content("c", 3);
        host_assign_inputs(running->host, WEB, 3);
        AWAIT(state_of(running, WEB)->inputs == 3);
        assert_int_equal(n_starts, 3);
}

/* A restart of its own would fail without them. */
static void what_a_running_unit_has_lost_is_made_again(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        disk.folders[0].state = (InputFileState) {};
        run_ms(running, 41000);
        run_pending(running);
        assert_int_equal(on_disk(WEB), 1);
        assert_int_equal(disk.n_restored, 1);
        disk.folders[0].state = disk.folders[0].copy = (InputFileState) {};
        run_ms(running, 41000);
        AWAIT(on_disk(WEB) == 1);
        assert_int_equal(disk.n_puts, 2);
        memset(&disk.folders[0], 0, sizeof(disk.folders[0])); /* no trace of it is left for the next daemon */
        reopen();
        AWAIT(on_disk(WEB) == 1);
        assert_int_equal(n_starts, 1);
        assert_int_equal(n_stops, 0);
}

static void lost_files_are_made_again_before_a_start(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        host_order(running->host, WEB, ASSIGNMENT_LOAD);
        AWAIT(is_published(running, WEB, "inactive"));
        rest();
        disk.folders[0].state = (InputFileState) {};
        submit(WEB, TEXT("web", INPUTS("restart")), 1);
        AWAIT(n_starts == 2);
        assert_int_equal(disk.n_restored, 1);
}

/* The key of the restored cluster is that of a number below, and its content cannot be brought. */
static void files_are_not_forgotten_when_numbers_begin_again(void **state) {
        host_inputs(running->host, WEB, 5, VERDICT_NONE);
        submit(WEB, TEXT("web", INPUTS("restart")), 5);
        AWAIT(is_published(running, WEB, "active"));
        rest();
        source.problem = VERDICT_AWAITS_SECRET;
        host_inputs(running->host, WEB, 2, VERDICT_AWAITS_SECRET);
        rest();
        host_assign_inputs(running->host, WEB, 2);
        rest();
        assert_int_equal(n_stops, 0);
        boot();
        AWAIT(n_starts == 2);
        assert_int_equal(on_disk(WEB), 5);
        source.problem = VERDICT_NONE;
        change_content("b", 2);
        AWAIT(on_disk(WEB) == 2);
}

/* The assignments of a restored cluster may be of a later moment than its keys. */
static void a_number_above_the_key_is_that_of_the_key(void **state) {
        host_inputs(running->host, WEB, 2, VERDICT_NONE);
        submit(WEB, TEXT("web", INPUTS("restart")), 7);
        AWAIT(is_published(running, WEB, "active"));
        assert_int_equal(on_disk(WEB), 2);
}

/* After a boot, the replica may need a moment: the unit is not started with both contents in turn. */
static void a_content_that_cannot_be_read_for_a_moment_is_awaited(void **state) {
        run_web(TEXT("web", INPUTS("restart")));
        source.unreadable = true;
        change_content("b", 2);
        host_assign_inputs(running->host, WEB, 2);
        boot();
        AWAIT(source.n == 3 && !source.done);
        assert_int_equal(n_starts, 1);
        source.unreadable = false;
        AWAIT(is_published(running, WEB, "active") && n_starts == 2);
        rest();
        assert_int_equal(state_of(running, WEB)->inputs, 2);
        assert_int_equal(n_starts, 2);
}

static void what_a_replica_may_have_soon_is_asked_for_each_five_seconds(void **state) {
        source.unreadable = true;
        host_inputs(running->host, WEB, 1, VERDICT_NONE);
        submit(WEB, TEXT("web", INPUTS("none")), 1);
        AWAIT(source.n == 4); /* after 1, 2 and 4 s */
        run_ms(running, 20500);
        run_pending(running);
        assert_in_range(source.n, 7, 8);
        source.unreadable = false;
        AWAIT(n_starts == 1);
}

static void many_units_get_their_contents_one_after_the_other(void **state) {
        static const char *const units[] = { "a.service", "b.service", "c.service" };

        for (size_t i = 0; i < ELEMENTS(units); i++) {
                host_inputs(running->host, units[i], 1, VERDICT_NONE);
                submit(units[i], TEXT("web", INPUTS("none")), 1);
        }
        for (size_t i = 0; i < ELEMENTS(units); i++)
                AWAIT(is_published(running, units[i], "active"));
        assert_int_equal(disk.n_puts, 3);
}

int main(int argc, char *argv[]) {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        const struct CMUnitTest tests[] = {
                TEST(a_unit_starts_when_its_content_is_in_files),
                TEST(a_new_unit_with_restarts_starts_once),
                TEST(a_unit_of_a_former_name_starts_with_its_own_content),
                TEST(a_secret_that_is_set_starts_the_unit_at_once),
                TEST(what_this_host_cannot_do_is_published_and_tried_again),
                TEST(why_a_running_unit_is_not_restarted_with_its_new_content_is_published),
                TEST(why_a_running_unit_is_not_reloaded_with_its_new_content_is_published),
                TEST(why_the_files_of_a_running_unit_stay_is_published),
                TEST(the_failure_of_a_content_that_is_not_to_be_had_any_more_is_not_published),
                TEST(why_a_unit_keeps_its_former_text_is_published),
                TEST(what_the_leader_finds_is_not_published_by_the_host),
                TEST(without_a_sealer_or_files_no_unit_with_secrets_starts),
                TEST(a_new_content_restarts_a_unit_once_and_not_before_it_is_there),
                TEST(a_start_waits_for_a_content_that_is_assigned_while_its_record_is_saved),
                TEST(a_start_has_the_content_that_came_while_its_record_was_saved),
                TEST(an_equal_content_is_not_written_again),
                TEST(a_unit_whose_content_is_not_known_runs_on),
                TEST(a_new_daemon_touches_no_unit_and_writes_nothing),
                TEST(files_of_a_unit_that_is_not_restarted_are_replaced_at_once),
                TEST(a_unit_that_systemd_restarts_right_before_its_files_are_replaced_is_restarted),
                TEST(new_files_reload_a_unit_once),
                TEST(a_reload_that_fails_is_not_repeated_for_its_content),
                TEST(a_text_that_only_restarts_for_contents_restarts_nothing_before_the_next_one),
                TEST(a_failed_unit_is_started_with_a_new_content),
                TEST(a_unit_runs_on_until_its_next_text_has_its_own_content),
                TEST(a_text_and_a_content_that_change_together_are_tried_as_one),
                TEST(the_former_content_stays_in_force_while_there_is_a_problem),
                TEST(a_host_that_boots_alone_starts_units_with_the_content_that_it_has),
                TEST(after_a_boot_a_unit_has_its_content_until_it_gets_a_text_without_inputs),
                TEST(after_a_boot_a_unit_has_its_former_content_while_the_assigned_one_has_a_problem),
                TEST(a_unit_that_stopped_for_another_has_its_former_content_while_there_is_a_problem),
                TEST(the_files_of_a_unit_are_removed_with_it),
                TEST(a_unit_is_removed_while_its_content_is_brought),
                TEST(a_daemon_ends_while_a_content_is_brought),
                TEST(what_no_unit_has_any_more_is_removed_at_the_start),
                TEST(a_text_without_inputs_has_no_files),
                TEST(a_content_of_a_restored_cluster_is_read_again_and_later_ones_restart),
                TEST(what_a_running_unit_has_lost_is_made_again),
                TEST(lost_files_are_made_again_before_a_start),
                TEST(files_are_not_forgotten_when_numbers_begin_again),
                TEST(a_number_above_the_key_is_that_of_the_key),
                TEST(a_content_that_cannot_be_read_for_a_moment_is_awaited),
                TEST(what_a_replica_may_have_soon_is_asked_for_each_five_seconds),
                TEST(many_units_get_their_contents_one_after_the_other),
        };

        return run_side_by_side(tests, ELEMENTS(tests), argc > 1 ? argv[1] : NULL);
}
