#include "tests/sim/input_files.h"

enum { PUT_MS = 5, PUT_MORE_MS = 60, SLOW_PERCENT = 15, SLOW_MS = 4000 };

static SimInputFiles *files_of(InputFiles *base) {
        return container_of(base, SimInputFiles, base);
}

/* -- Contents -- */

static InputFile *content_copy(const InputFile *files, size_t n) {
        InputFile *copy = NEW0(InputFile, n + 1);

        for (size_t i = 0; i < n; i++) {
                char *value = malloc(files[i].size + 1);

                if (files[i].size > 0)
                        memcpy(value, files[i].value, files[i].size);
                value[files[i].size] = 0;
                copy[i] = (InputFile) { strdup(files[i].name), value, files[i].size };
        }
        return copy;
}

static void content_free_files(InputFile *files, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free((void *) files[i].name);
                free((void *) files[i].value);
        }
        free(files);
}

static const SimContent *content_new(SimInputFiles *f, const InputFileSet *set) {
        SimContent *c = NEW0(SimContent, 1);

        *c = (SimContent) { .state.number = set->number,
                            .environment = strdup(set->environment),
                            .credentials = content_copy(set->credentials, set->n_credentials),
                            .n_credentials = set->n_credentials,
                            .files = content_copy(set->files, set->n_files),
                            .n_files = set->n_files };
        snprintf(c->state.digest, sizeof(c->state.digest), "%s", set->digest);
        LIST_INSERT_HEAD(&f->contents, c, of_files);
        return c;
}

/* -- Put -- */

static size_t folder_find(const SimInputFolder *folder, const char *name) {
        size_t i = 0;

        while (i < INPUT_SECRETS_MAX && folder->credentials[i] && !streq(folder->credentials[i]->name, name))
                i++;
        assert(i < INPUT_SECRETS_MAX);
        return i;
}

static void files_changed(const SimInputFiles *f) {
        if (f->on_change)
                f->on_change(f->machine);
}

/* Rename one file after the other: the credentials, the copy, what is in memory. */
static void put_execute(SimInputFiles *f, size_t steps) {
        SimInputFolder *folder = f->folder;
        const SimContent *next = f->next;
        size_t n = next->n_credentials;

        for (size_t i = 0; i < MIN(n, steps); i++)
                folder->credentials[folder_find(folder, next->credentials[i].name)] = &next->credentials[i];
        folder->copy = steps > n ? next : folder->copy;
        folder->environment = steps > n + 1 ? next : folder->environment;
        folder->current = steps > n + 2 ? next : folder->current;
        files_changed(f);
}

static size_t put_steps(const SimInputFiles *f) {
        return f->next->n_credentials + 3;
}

static void put_on_timer(void *userdata) {
        SimInputFiles *f = userdata;
        bool fails = world_chance(f->world, f->fail_percent);
        InputFilesDone *done = f->done;

        if (!fails)
                put_execute(f, put_steps(f));
        f->folder = NULL;
        f->done = NULL;
        done(f->userdata, fails ? -ENOSPC : 0, fails ? "no space is left" : "");
}

static int files_put(InputFiles *base, const InputFileSet *set, InputFilesDone *done, void *userdata) {
        SimInputFiles *f = files_of(base);
        uint64_t takes_ms;

        assert(!f->folder && set->n_credentials < INPUT_SECRETS_MAX);
        f->folder = named_get(&f->folders, set->folder, sizeof(*f->folder));
        f->next = content_new(f, set);
        f->done = done;
        f->userdata = userdata;
        f->timer = TIMER(put_on_timer, f);
        f->n_puts++;
        takes_ms = PUT_MS +
                   world_draw(f->world, world_chance(f->world, SLOW_PERCENT) ? SLOW_MS : PUT_MORE_MS);
        if (f->on_put)
                f->on_put(f->machine, takes_ms);
        return timer_start(&f->timer, f->loop, takes_ms);
}

void sim_input_files_crash(SimInputFiles *f) {
        if (!f->folder)
                return;
        timer_stop(&f->timer);
        put_execute(f, (size_t) world_draw(f->world, put_steps(f) + 1));
        f->folder = NULL;
        f->n_interrupted++;
}

void sim_input_files_end(SimInputFiles *f) {
        InputFilesDone *done = f->done;

        if (f->folder) {
                timer_stop(&f->timer);
                put_execute(f, put_steps(f));
        }
        f->folder = NULL;
        f->done = NULL;
        if (done)
                done(f->userdata, 0, "");
}

/* -- What was left -- */

static bool folder_has_credentials(const SimInputFolder *folder, const SimContent *c) {
        for (size_t i = 0; i < c->n_credentials; i++)
                if (!folder->credentials[folder_find(folder, c->credentials[i].name)])
                        return false;
        return true;
}

bool sim_input_folder_is_complete(const SimInputFolder *folder) {
        return folder->environment && folder->current && folder_has_credentials(folder, folder->current);
}

static bool files_check(InputFiles *base, const char *name, const Names *credentials) {
        const SimInputFolder *folder = named_find(files_of(base)->folders, name);

        for (size_t i = 0; folder && i < credentials->n; i++)
                if (!folder->credentials[folder_find(folder, credentials->items[i])])
                        return false;
        return folder && folder->environment && folder->current;
}

static int files_restore(InputFiles *base, const char *name, InputFileState *ret) {
        SimInputFiles *f = files_of(base);
        SimInputFolder *folder = named_find(f->folders, name);

        if (!folder || !folder->copy || !folder_has_credentials(folder, folder->copy))
                return -ENOENT;
        f->n_restored += folder->environment != folder->copy || folder->current != folder->copy;
        folder->environment = folder->current = folder->copy;
        *ret = folder->copy->state;
        return 0;
}

static int files_list(InputFiles *base, char ***ret, size_t *ret_n) {
        SimInputFiles *f = files_of(base);

        *ret = NEW0(char *, HASH_COUNT(f->folders) + 1);
        *ret_n = 0;
        for (const Named *n = f->folders; n; n = n->hh.next)
                (*ret)[(*ret_n)++] = strdup(n->name);
        return 0;
}

static int files_remove(InputFiles *base, const char *name) {
        SimInputFiles *f = files_of(base);

        if (named_find(f->folders, name))
                named_remove(&f->folders, name);
        files_changed(f);
        return 0;
}

void sim_input_files_boot(SimInputFiles *f) {
        for (Named *n = f->folders; n; n = n->hh.next)
                ((SimInputFolder *) n)->environment = ((SimInputFolder *) n)->current = NULL;
}

void sim_input_files_init(SimInputFiles *f, World *w) {
        static const InputFilesOps ops = { files_put, files_check, files_restore, files_list, files_remove };

        *f = (SimInputFiles) { .base.ops = &ops, .world = w };
}

void sim_input_files_clear(SimInputFiles *f) {
        SimContent *c;

        assert(!f->folder);
        named_clear(&f->folders);
        while ((c = LIST_FIRST(&f->contents))) {
                LIST_REMOVE(c, of_files);
                content_free_files(c->credentials, c->n_credentials);
                content_free_files(c->files, c->n_files);
                free(c->environment);
                free(c);
        }
}
