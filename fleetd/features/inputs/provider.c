/* Brings the contents of the units of this host into files: each is resolved, its credentials are sealed, and
 * all is written, one folder at a time. The agent asks for what a step requires; what changes without a step
 * follows the key of the unit. A content is tagged with the number that the key has before it is read, so
 * that it is at least as new.
 *
 * Texts with other lists have other folders (inputs_folder()): those of the next text are brought while the
 * unit runs with the former one, and a folder is removed when no text needs it. What is lost on the disk is
 * made again: from the copy, or else by a new content. */
#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/agent.h"
#include "fleetd/agent/records.h"
#include "fleetd/features/inputs/inputs_internal.h"

enum {
        PROVIDER_RETRY_MIN_MS = 1000,
        PROVIDER_RETRY_MAX_MS = 60000,
        PROVIDER_AWAIT_MAX_MS = 5000, /* while another host may have what this one cannot read */
        PROVIDER_AWAITED = 3,         /* failed reads in a row, after which a content is not awaited */
        PROVIDER_SWEEP_MS = 30000,
        PROVIDER_SWEEP_SLACK_MS = 10000,
        PROVIDER_SWEEP_UNITS = 16, /* whose files are checked then */
};

typedef struct ProvidedUnit {
        Named unit;
        LIST_HEAD(, ProvidedFolder) folders;
} ProvidedUnit;

typedef enum ProviderStage {
        PROVIDER_RESTS,
        /* Due, on the loop: */
        PROVIDER_REMOVES,
        PROVIDER_RESTORES,
        /* Due, or under way: */
        PROVIDER_RESOLVES,
        PROVIDER_SEALS,
        PROVIDER_WRITES,
} ProviderStage;

/* The files for all texts of a unit with the same lists. */
typedef struct ProvidedFolder {
        ProvidedUnit *of;
        InputFileState has;  /* number 0: not all files are there, or it is not known */
        Unit *text;          /* owned; that is brought, or has failed; NULL: none */
        ProviderStage due;   /* below PROVIDER_SEALS; in Provider.due unless it rests */
        Verdict problem;     /* of the last attempt; or none */
        unsigned n_failures; /* in a row */
        uint64_t retry_ms;   /* no other attempt before; 0: at any time */
        LIST_ENTRY(ProvidedFolder) of_unit;
        TAILQ_ENTRY(ProvidedFolder) due_folders;
        char name[INPUTS_FOLDER_SIZE];
} ProvidedFolder;

/* A folder under way, and what it is to have. */
typedef struct ProviderTask {
        Provider *provider; /* NULL: it was freed, and the files are still being written */
        ProvidedFolder *folder;
        ProviderStage stage;
        InputFileState state;
        InputFile *credentials, *files; /* owned, with names and values */
        size_t n_credentials, n_files, n_sealed;
        Text environment;
} ProviderTask;

struct Provider {
        ComponentHost *host; /* borrowed, as the next two */
        Resolver *resolver;
        InputFiles *files; /* NULL: no content can be written */
        RegistryObserver observer;
        Named *units; /* ProvidedUnit; each has a folder */
        TAILQ_HEAD(, ProvidedFolder) due;
        Deferred next;
        Timer retry, sweep;
        Named *swept;       /* the next one; NULL: the first */
        ProviderTask *task; /* owned; NULL: none */
};

/* -- What a unit has, and is to have -- */

static const InputsRecord *provider_key(const Provider *p, const char *unit) {
        const ClusterUnit *u = cluster_any_unit(registry_cluster(p->host->registry), unit);

        return u ? u->inputs : NULL;
}

static const ClusterAssignment *provider_assignment(const Provider *p, const char *unit) {
        return cluster_assignment(registry_cluster(p->host->registry), p->host->settings->machine_id, unit);
}

/* Return the number of the content of the files, as the cluster counts now. The numbers of a cluster that was
 * restored, and of a unit that was destroyed and submitted again, begin below those of before: a content that
 * is not that of the key is outdated then, which is 0. */
static uint64_t provider_number(const Provider *p, const ProvidedFolder *f) {
        const InputsRecord *key = provider_key(p, f->of->unit.name);

        if (!key || f->has.number == 0 || !agent_is_fresh(p->host->agent))
                return f->has.number;
        if (streq(f->has.digest, key->digest))
                return key->number;
        return f->has.number > key->number ? 0 : f->has.number;
}

static ProvidedFolder *provider_find(const Provider *p, const Unit *text) {
        const ProvidedUnit *unit = named_find(p->units, text->name);
        ProvidedFolder *f = unit ? LIST_FIRST(&unit->folders) : NULL;
        char name[INPUTS_FOLDER_SIZE];

        inputs_folder(text, name);
        while (f && !streq(f->name, name))
                f = LIST_NEXT(f, of_unit);
        return f;
}

/* Return a new entry, or NULL. */
static ProvidedFolder *provider_add(Provider *p, const char *unit, const char *name) {
        ProvidedFolder *f = NEW0(ProvidedFolder, 1);

        if (!f)
                return NULL;
        f->of = named_get(&p->units, unit, sizeof(*f->of));
        if (!f->of) {
                free(f);
                return NULL;
        }
        snprintf(f->name, sizeof(f->name), "%s", name);
        LIST_INSERT_HEAD(&f->of->folders, f, of_unit);
        return f;
}

static void provider_forget(Provider *p, ProvidedFolder *f) {
        LIST_REMOVE(f, of_unit);
        if (LIST_EMPTY(&f->of->folders)) {
                if (p->swept == &f->of->unit)
                        p->swept = f->of->unit.hh.next;
                named_remove(&p->units, f->of->unit.name);
        }
        unit_free(f->text);
        free(f);
}

/* What is done on the loop does not wait for what is under way. */
static void provider_queue(Provider *p, ProvidedFolder *f, ProviderStage due) {
        if (f->due != PROVIDER_RESTS)
                TAILQ_REMOVE(&p->due, f, due_folders);
        f->due = due;
        if (due == PROVIDER_RESOLVES)
                TAILQ_INSERT_TAIL(&p->due, f, due_folders);
        else if (due != PROVIDER_RESTS)
                TAILQ_INSERT_HEAD(&p->due, f, due_folders);
        loop_defer(p->host->io.loop, &p->next);
}

/* Return the folder of a text that needs it, or NULL without memory. */
static ProvidedFolder *provider_need(Provider *p, const Unit *text) {
        ProvidedFolder *f = provider_find(p, text);
        char name[INPUTS_FOLDER_SIZE];

        if (f && f->due == PROVIDER_REMOVES)
                provider_queue(p, f, PROVIDER_RESTS);
        if (f)
                return f;
        inputs_folder(text, name);
        return provider_add(p, text->name, name);
}

/* Return whether all files that the text names are there. */
static bool provider_check(const Provider *p, ProvidedFolder *f, const Unit *text) {
        if (f->has.number == 0 ||
            p->files->ops->check(p->files, f->name, &text->placement.inputs.credentials))
                return f->has.number > 0;
        log_notice(((LogFields) { .unit = text->name }),
                   "Files of the secrets and configuration of %s are missing, and are made again",
                   text->name);
        f->has = (InputFileState) {};
        return false;
}

/* Begin to bring the content for the text, unless that is under way, or has failed a moment ago. 0 or
 * -ENOMEM. */
static int provider_want(Provider *p, ProvidedFolder *f, const Unit *text) {
        const InputsRecord *key = provider_key(p, text->name);
        Unit *copy = NULL;

        if ((p->task && p->task->folder == f) || f->retry_ms > loop_now_ms(p->host->io.loop) ||
            (f->has.number > 0 && (!key || key->number == 0)))
                return 0;
        if (!f->text || !streq(f->text->hash, text->hash)) {
                TRY(unit_read(text->name, text->text, text->text_size, &copy, NULL));
                unit_free(f->text);
                f->text = copy;
        }
        if (f->due == PROVIDER_RESTS)
                provider_queue(p, f, f->has.number > 0 ? PROVIDER_RESOLVES : PROVIDER_RESTORES);
        return 0;
}

/* -- The folder under way -- */

static void provider_free_files(InputFile *files, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free((void *) files[i].name);
                tls_secret_free((void *) files[i].value, files[i].size);
        }
        free(files);
}

/* 0 or -ENOMEM; in both cases, the copies are the caller's. */
static int provider_copy(const ContentItem *items, size_t n, InputFile **ret, size_t *ret_n) {
        *ret = NEW0(InputFile, n + 1);
        if (!*ret)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                InputFile *f = &(*ret)[(*ret_n)++];
                void *value = malloc(items[i].size + 1);

                f->name = strdup(items[i].name);
                f->value = value;
                if (!f->name || !value)
                        return -ENOMEM;
                f->size = items[i].size;
                if (f->size > 0)
                        memcpy(value, items[i].value, f->size);
        }
        return 0;
}

static void provider_free_task(ProviderTask *t) {
        provider_free_files(t->credentials, t->n_credentials);
        provider_free_files(t->files, t->n_files);
        text_done(&t->environment);
        free(t);
}

/* The folder is under way no more: the agent plans its unit again, and the next one follows. */
static void provider_end(ProviderTask *t) {
        Provider *p = t->provider;

        p->task = NULL;
        loop_defer(p->host->io.loop, &p->next);
        agent_wake_unit(p->host->agent, t->folder->of->unit.name);
        provider_free_task(t);
}

static void provider_succeed(ProviderTask *t) {
        ProvidedFolder *f = t->folder;

        f->has = t->state;
        f->text = unit_free(f->text);
        f->problem = (Verdict) {};
        f->n_failures = 0;
        f->retry_ms = 0;
        provider_end(t);
}

static void provider_fail(ProviderTask *t, const Verdict *why) {
        Provider *p = t->provider;
        ProvidedFolder *f = t->folder;
        bool awaits = why->code == VERDICT_AWAITS_CONTENT || why->code == VERDICT_SECRET_UNOPENED;
        uint64_t delay_ms = (uint64_t) PROVIDER_RETRY_MIN_MS << MIN(f->n_failures, 6u);
        const char *unit = f->of->unit.name;
        _cleanup_text_ Text message = {};

        if (verdict_rows[why->code].bad && !verdict_equal(&f->problem, why)) {
                verdict_append(&message, why);
                log_warning(((LogFields) { .unit = unit }),
                            "Failed to provide the secrets and configuration of %s: %s", unit,
                            text_chars(&message));
        }
        f->problem = *why;
        f->n_failures++;
        f->retry_ms = loop_now_ms(p->host->io.loop) +
                      MIN(delay_ms, (uint64_t) (awaits ? PROVIDER_AWAIT_MAX_MS : PROVIDER_RETRY_MAX_MS));
        (void) timer_start_by(&p->retry, p->host->io.loop, f->retry_ms, 0);
        provider_end(t);
}

static void provider_fail_to_write(ProviderTask *t, int error, const char *message) {
        Verdict why;

        verdict_set(&why, VERDICT_INPUTS_UNWRITTEN, "%s", message && message[0] ? message : strerror(-error));
        provider_fail(t, &why);
}

static void provider_on_written(void *userdata, int error, const char *message) {
        ProviderTask *t = userdata;

        if (!t->provider)
                provider_free_task(t);
        else if (error < 0) {
                t->folder->has.digest[0] = 0; /* some may be written: it equals none */
                provider_fail_to_write(t, error, message);
        } else
                provider_succeed(t);
}

static void provider_write(ProviderTask *t) {
        InputFiles *files = t->provider->files;
        int r;

        t->stage = PROVIDER_WRITES;
        r = files->ops->put(files,
                            &(InputFileSet) { .folder = t->folder->name,
                                              .digest = t->state.digest,
                                              .number = t->state.number,
                                              .credentials = t->credentials,
                                              .n_credentials = t->n_credentials,
                                              .files = t->files,
                                              .n_files = t->n_files,
                                              .environment = text_chars(&t->environment) },
                            provider_on_written, t);
        if (r < 0)
                provider_fail_to_write(t, r, NULL);
}

static void provider_seal_next(ProviderTask *t);

static void provider_on_sealed(void *userdata, int error, const char *message, const void *bytes,
                               size_t size) {
        ProviderTask *t = userdata;
        InputFile *f = &t->credentials[t->n_sealed];
        void *sealed = error < 0 ? NULL : malloc(size + 1);
        Verdict why;

        if (!sealed) {
                verdict_set(&why, VERDICT_SECRET_UNSEALED, "%s" VERDICT_NEXT "%s", f->name,
                            message && message[0] ? message : strerror(error < 0 ? -error : ENOMEM));
                provider_fail(t, &why);
                return;
        }
        memcpy(sealed, bytes, size);
        tls_secret_free((void *) f->value, f->size);
        f->value = sealed;
        f->size = size;
        t->n_sealed++;
        provider_seal_next(t);
}

/* Seal one credential after the other, then write. */
static void provider_seal_next(ProviderTask *t) {
        const ComponentHost *host = t->provider->host;
        SealWith form = host->settings->seal_with;
        Sealer *sealer = host->io.input_sealer;
        const InputFile *f;
        Error err = {};
        int r = -EOPNOTSUPP;

        if (t->n_sealed == t->n_credentials) {
                provider_write(t);
                return;
        }
        t->stage = PROVIDER_SEALS;
        f = &t->credentials[t->n_sealed];
        if (sealer)
                r = sealer->ops->seal(sealer,
                                      &(SealerCall) { .form = form == SEAL_WITH_NO ? SEAL_WITH_HOST : form,
                                                      .name = f->name,
                                                      .bytes = f->value,
                                                      .size = f->size,
                                                      .done = provider_on_sealed,
                                                      .userdata = t },
                                      &err);
        if (r < 0)
                provider_on_sealed(t, r, error_text(&err, r), NULL, 0);
}

static void provider_on_resolved(void *userdata, const Resolved *resolved) {
        ProviderTask *t = userdata;
        const ProvidedFolder *f = t->folder;
        const Content *content = resolved ? &resolved->content : NULL;
        Verdict why;
        int r;

        verdict_set(&why, VERDICT_AWAITS_CONTENT, "%s", "");
        if (!content || content->problem.code != VERDICT_NONE) {
                provider_fail(t, content ? &content->problem : &why);
                return;
        }
        memcpy(t->state.digest, content->digest, sizeof(t->state.digest));
        if (f->has.number > 0 && streq(t->state.digest, f->has.digest)) {
                provider_succeed(t);
                return;
        }
        r = provider_copy(content->credentials, content->n_credentials, &t->credentials, &t->n_credentials);
        if (r == 0)
                r = provider_copy(content->files, content->n_files, &t->files, &t->n_files);
        content_append_environment(&t->environment, content, ends_with(f->of->unit.name, ".container"));
        if (r < 0 || t->environment.error < 0)
                provider_fail_to_write(t, r < 0 ? r : t->environment.error, NULL);
        else
                provider_seal_next(t);
}

/* 0 or -ENOMEM. */
static int provider_resolve(Provider *p, ProvidedFolder *f) {
        const char *unit = f->of->unit.name;
        const ClusterUnit *u = cluster_any_unit(registry_cluster(p->host->registry), unit);
        const ClusterAssignment *assignment = provider_assignment(p, unit);
        const InputsRecord *key = provider_key(p, unit);
        int r = -EAGAIN;

        p->task = NEW0(ProviderTask, 1);
        if (!p->task)
                return -ENOMEM;
        *p->task = (ProviderTask) {
                .provider = p, .folder = f, .stage = PROVIDER_RESOLVES, .state.number = key ? key->number : 0
        };
        if (p->task->state.number > 0)
                r = resolver_begin(p->resolver, f->text,
                                   MAX(u->inputs_index, assignment ? assignment->index : 0),
                                   provider_on_resolved, p->task);
        if (r < 0)
                provider_on_resolved(p->task, NULL);
        return 0;
}

/* Take over what was there, or else bring another content. */
static void provider_restore(Provider *p, ProvidedFolder *f) {
        const char *unit = f->of->unit.name;
        int r = p->files->ops->restore(p->files, f->name, &f->has);

        if (r < 0 && r != -ENOENT)
                log_warning(((LogFields) { .unit = unit, .error = r }),
                            "Failed to restore the configuration of %s: %s", unit, strerror(-r));
        if (r == 0 && p->files->ops->check(p->files, f->name, &f->text->placement.inputs.credentials)) {
                agent_wake_unit(p->host->agent, unit);
                return;
        }
        f->has = (InputFileState) {};
        provider_queue(p, f, PROVIDER_RESOLVES);
}

static void provider_remove(Provider *p, ProvidedFolder *f) {
        int r = p->files->ops->remove(p->files, f->name);

        if (r < 0 && r != -ENOENT)
                log_warning(((LogFields) { .unit = f->of->unit.name, .error = r }),
                            "Failed to remove the secrets and configuration of %s: %s", f->of->unit.name,
                            strerror(-r));
        provider_forget(p, f);
}

/* Do one thing that is due: those of the loop may take a while. */
static void provider_on_next(void *userdata) {
        Provider *p = userdata;
        ProvidedFolder *f = TAILQ_FIRST(&p->due);
        ProviderStage due = f ? f->due : PROVIDER_RESTS;

        if (!f || (p->task && (due == PROVIDER_RESOLVES || p->task->folder == f)))
                return;
        provider_queue(p, f, PROVIDER_RESTS);
        if (due == PROVIDER_REMOVES)
                provider_remove(p, f);
        else if (due == PROVIDER_RESTORES)
                provider_restore(p, f);
        else if (provider_resolve(p, f) < 0)
                provider_queue(p, f, due);
}

/* Files that are being written end so. */
static void provider_cancel(Provider *p) {
        ProviderTask *t = TAKE_PTR(p->task);

        if (!t)
                return;
        t->provider = NULL;
        if (t->stage == PROVIDER_WRITES)
                return;
        if (t->stage == PROVIDER_RESOLVES)
                resolver_cancel(p->resolver, t->folder->of->unit.name);
        else
                p->host->io.input_sealer->ops->cancel(p->host->io.input_sealer);
        provider_free_task(t);
}

/* No text needs the folder. */
static void provider_drop(Provider *p, ProvidedFolder *f) {
        if (p->task && p->task->folder == f && p->task->stage != PROVIDER_WRITES)
                provider_cancel(p);
        if (f->due != PROVIDER_REMOVES)
                provider_queue(p, f, PROVIDER_REMOVES);
}

/* -- The duty -- */

int provider_provide(Provider *p, const Unit *text, uint64_t number, Verdict *why) {
        const ClusterUnit *u = cluster_any_unit(registry_cluster(p->host->registry), text->name);
        const InputsRecord *key = u ? u->inputs : NULL;
        ProvidedFolder *f;

        if (!p->files) {
                verdict_set(why, VERDICT_INPUTS_UNWRITTEN, "%s", strerror(EOPNOTSUPP));
                return -ENODATA;
        }
        f = provider_need(p, text);
        if (!f)
                return -ENOMEM;
        if (key)
                number = MIN(number, MAX(key->number, 1u));
        else if (!u || !u->unit || !input_policy_is_set(&u->unit->placement.inputs))
                number = 0; /* otherwise the leader is about to write it */
        if (provider_check(p, f, text) && (number == 0 || provider_number(p, f) >= number))
                return 0;
        TRY(provider_want(p, f, text));
        if (f->problem.code != VERDICT_NONE)
                *why = f->problem;
        else if (key)
                *why = key->problem;
        if (why->code == VERDICT_NONE)
                verdict_set(why, VERDICT_AWAITS_CONTENT, "%s", "");
        return why->code == VERDICT_AWAITS_CONTENT && f->n_failures < PROVIDER_AWAITED ? -EAGAIN : -ENODATA;
}

uint64_t provider_provided(const Provider *p, const Unit *text, Verdict *problem) {
        const ProvidedFolder *f = provider_find(p, text);

        if (f && problem)
                *problem = f->problem;
        return f ? provider_number(p, f) : 0;
}

int provider_stage(Provider *p, const Unit *text, Error *err) {
        Systemd *systemd = p->host->io.systemd;
        _cleanup_text_ Text t = {};
        int r;

        if (!(drop_in_wanted(text) & 1U << DROP_IN_INPUTS))
                return 0;
        inputs_append_drop_in(&t, text);
        r = t.error < 0 ? t.error :
                          systemd->ops->put_drop_in(systemd, text->name, DROP_IN_INPUTS, text_chars(&t));
        return r < 0 ? error_set(err, r, "Failed to write the drop-in of its secrets and configuration: %s",
                                 strerror(-r)) :
                       r;
}

/* With OnChange=restart, an assignment decides when a unit has a new content, which its next start uses also
 * if the agent does not restart it. Otherwise, the key decides. A step to another text brings the content
 * with that. */
static void provider_follow(Provider *p, ProvidedFolder *f, const Unit *text, bool assigned) {
        const ClusterAssignment *assignment = provider_assignment(p, text->name);
        const InputsRecord *key = provider_key(p, text->name);
        uint64_t has = provider_check(p, f, text) ? provider_number(p, f) : 0,
                 number = key && assigned ? key->number : 0;

        if (has > 0) /* so it stays that number when the key changes */
                f->has.number = has;
        if (input_policy_restarts(&text->placement.inputs))
                number = MIN(number, assignment ? assignment->inputs : 0);
        if (f->has.number == 0 || number > has)
                (void) provider_want(p, f, text); /* without memory, the next pass does */
        else if (assigned)
                f->problem = (Verdict) {}; /* of a content that is not to be had any more */
}

/* The record has the text that is in force, unless that is being replaced. Its folder is needed, and that of
 * the assigned text. */
void provider_publish(Provider *p, const DutyUnit *unit) {
        const Unit *text = unit->record ? unit->record->unit : NULL;
        bool assigned = text && unit->assigned && streq(unit->assigned->hash, text->hash);
        ProvidedFolder *own = NULL, *f, *next;
        const ProvidedUnit *of;

        if (!text || !p->files)
                return;
        if (input_policy_is_set(&text->placement.inputs)) {
                own = provider_need(p, text);
                if (!own)
                        return; /* the next pass has memory */
                provider_follow(p, own, text, assigned);
        }
        of = named_find(p->units, unit->name);
        if (!of || !assigned || unit->record->replacing || !agent_is_fresh(p->host->agent))
                return;
        for (f = LIST_FIRST(&of->folders); f; f = next) {
                next = LIST_NEXT(f, of_unit);
                if (f != own)
                        provider_drop(p, f);
        }
}

void provider_gone(Provider *p, const char *unit) {
        const ProvidedUnit *of = named_find(p->units, unit);
        ProvidedFolder *f;

        if (of)
                LIST_FOREACH(f, &of->folders, of_unit)
                        provider_drop(p, f);
}

/* -- Events -- */

/* What has failed may succeed now. */
static void provider_retry_now(Provider *p, const ProvidedUnit *of) {
        ProvidedFolder *f;

        LIST_FOREACH(f, &of->folders, of_unit)
                if (f->retry_ms > 0) {
                        f->n_failures = 0;
                        f->retry_ms = 0;
                        agent_wake_unit(p->host->agent, of->unit.name);
                }
}

static void provider_on_change(void *userdata, const RegistryChange *change) {
        Provider *p = userdata;
        const ProvidedUnit *of = change->kind == CHANGED_INPUTS ? named_find(p->units, change->unit) : NULL;

        if (of)
                provider_retry_now(p, of);
        if (change->kind == CHANGED_SECRET || change->kind == CHANGED_ALL)
                for (const Named *n = p->units; n; n = n->hh.next)
                        provider_retry_now(p, (const ProvidedUnit *) n);
}

static void provider_on_retry(void *userdata) {
        Provider *p = userdata;
        uint64_t now_ms = loop_now_ms(p->host->io.loop);
        ProvidedFolder *f;

        for (const Named *n = p->units; n; n = n->hh.next)
                LIST_FOREACH(f, &((const ProvidedUnit *) n)->folders, of_unit) {
                        if (f->retry_ms > now_ms)
                                (void) timer_start_by(&p->retry, p->host->io.loop, f->retry_ms, 0);
                        else if (f->retry_ms > 0) {
                                f->retry_ms = 0;
                                agent_wake_unit(p->host->agent, n->name);
                        }
                }
}

/* Files may be lost while their unit runs: provider_publish() checks them. */
static void provider_on_sweep(void *userdata) {
        Provider *p = userdata;

        p->swept = p->swept ?: p->units;
        for (unsigned i = 0; i < PROVIDER_SWEEP_UNITS && p->swept; i++) {
                agent_wake_unit(p->host->agent, p->swept->name);
                p->swept = p->swept->hh.next;
        }
        (void) timer_start_with_slack(&p->sweep, p->host->io.loop, PROVIDER_SWEEP_MS,
                                      PROVIDER_SWEEP_SLACK_MS);
}

/* -- Start and end -- */

/* Take over what a former daemon or boot has left. The agent looks at each of these units, so that what
 * nothing names is removed (provider_gone()). */
static int provider_list(Provider *p) {
        char **folders = NULL, unit[UNIT_NAME_MAX + 1];
        size_t n = 0;
        int r = p->files ? p->files->ops->list(p->files, &folders, &n) : 0;

        if (r < 0 && r != -ENOENT)
                log_warning(((LogFields) { .error = r }),
                            "Failed to list the secrets and configuration of units: %s", strerror(-r));
        r = 0;
        for (size_t i = 0; i < n && r == 0; i++) {
                if (!inputs_unit_of(folders[i], unit))
                        continue;
                r = provider_add(p, unit, folders[i]) ? 0 : -ENOMEM;
                agent_wake_unit(p->host->agent, unit);
        }
        strings_free(folders, n);
        return r;
}

int provider_new(Provider **ret, ComponentHost *host, Resolver *resolver) {
        Provider *p = NEW0(Provider, 1);

        if (!p)
                return -ENOMEM;
        *p = (Provider) { .host = host,
                          .resolver = resolver,
                          .files = host->io.input_files,
                          .observer = { .on_change = provider_on_change, .userdata = p },
                          .next = DEFERRED(provider_on_next, p),
                          .retry = TIMER(provider_on_retry, p),
                          .sweep = TIMER(provider_on_sweep, p) };
        TAILQ_INIT(&p->due);
        registry_observe(host->registry, &p->observer);
        *ret = p;
        TRY(provider_list(p));
        return timer_start_with_slack(&p->sweep, host->io.loop, PROVIDER_SWEEP_MS, PROVIDER_SWEEP_SLACK_MS);
}

Provider *provider_free(Provider *p) {
        if (!p)
                return NULL;

        registry_unobserve(p->host->registry, &p->observer);
        provider_cancel(p);
        deferred_cancel(&p->next);
        timer_stop(&p->retry);
        timer_stop(&p->sweep);
        while (p->units)
                provider_forget(p, LIST_FIRST(&((ProvidedUnit *) p->units)->folders));
        free(p);
        return NULL;
}
