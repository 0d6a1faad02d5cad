/* Brings the contents of the units of this host into files: each is resolved, its credentials are sealed, and
 * all is written, one unit at a time. The agent asks for what a step requires; what changes without a step
 * follows the key of the unit. A content is tagged with the number that the key has before it is read, so
 * that it is at least as new. */
#include "base/file.h"
#include "base/log.h"
#include "fleetd/agent/agent.h"
#include "fleetd/agent/records.h"
#include "fleetd/features/inputs/inputs_internal.h"

enum {
        PROVIDER_RETRY_MIN_MS = 1000,
        PROVIDER_RETRY_MAX_MS = 60000,
        PROVIDER_LISTS_DIGITS = 16, /* of a digest: those of the lists of the text; the content's follow */
};

/* A unit with files, or that is to have some. */
typedef struct ProvidedUnit {
        Named unit;
        InputFileState has; /* its files; number 0: none */
        Unit *text;         /* owned; that is brought, or has failed; NULL: none */
        bool due;           /* in Provider.due */
        Verdict problem;    /* of the last attempt; or none */
        uint64_t delay_ms;  /* after the next failure in a row */
        uint64_t retry_ms;  /* no other attempt with this text before; 0: at any time */
        TAILQ_ENTRY(ProvidedUnit) due_units;
} ProvidedUnit;

typedef enum ProviderStage { PROVIDER_RESOLVES, PROVIDER_SEALS, PROVIDER_WRITES } ProviderStage;

struct Provider {
        ComponentHost *host; /* borrowed, as the next two */
        Resolver *resolver;
        InputFiles *files; /* NULL: no content can be written */
        RegistryObserver observer;
        Named *units; /* ProvidedUnit */
        TAILQ_HEAD(, ProvidedUnit) due;
        Deferred next;
        Timer retry;

        ProvidedUnit *current; /* under way; NULL: none. What it is to have: */
        ProviderStage stage;
        InputFileState state;
        InputFile *credentials, *written; /* owned, with names and values */
        size_t n_credentials, n_written, n_sealed;
        Text environment;
};

/* -- What a unit has, and is to have -- */

/* Write the digest of the lists of a text in hex. 0 or a negative errno. */
static int provider_lists(const Unit *text, char ret[static SHA256_SIZE]) {
        const InputPolicy *inputs = &text->placement.inputs;
        const Names *lists[] = { &inputs->secrets, &inputs->credentials, &inputs->environment, &inputs->files,
                                 &inputs->directories };
        _cleanup_text_ Text t = {};

        for (size_t i = 0; i < ELEMENTS(lists); i++) {
                text_printf(&t, "%zu\n", lists[i]->n);
                for (size_t k = 0; k < lists[i]->n; k++)
                        text_printf(&t, "%s\n", lists[i]->items[k]);
        }
        return t.error < 0 ? t.error : bytes_sha256(t.chars, t.size, ret);
}

/* Return whether the files were made for a text with these lists. */
static bool provider_is_for(const ProvidedUnit *own, const Unit *text) {
        char lists[SHA256_SIZE];

        return provider_lists(text, lists) == 0 &&
               strncmp(own->has.digest, lists, PROVIDER_LISTS_DIGITS) == 0;
}

/* Return the key of the unit, or NULL. The numbers of a cluster that was restored, and of a unit that was
 * destroyed and submitted again, begin below those of before: the files may have another content. */
static const InputsRecord *provider_key(const Provider *p, ProvidedUnit *own) {
        const ClusterUnit *u = cluster_any_unit(registry_cluster(p->host->registry), own->unit.name);
        const InputsRecord *key = u ? u->inputs : NULL;

        if (key && key->number < own->has.number && agent_is_fresh(p->host->agent))
                own->has.number = 0;
        return key;
}

static const ClusterAssignment *provider_assignment(const Provider *p, const char *unit) {
        return cluster_assignment(registry_cluster(p->host->registry), p->host->settings->machine_id, unit);
}

/* Begin to bring the content for the text, unless that is under way, or has failed a moment ago. 0 or
 * -ENOMEM. */
static int provider_want(Provider *p, ProvidedUnit *own, const Unit *text) {
        const InputsRecord *key = provider_key(p, own);
        bool same = own->text && streq(own->text->hash, text->hash);
        Unit *copy = NULL;

        if (!key || key->number == 0 || p->current == own ||
            (same && (own->due || own->retry_ms > loop_now_ms(p->host->io.loop))))
                return 0;
        TRY(unit_read(text->name, text->text, text->text_size, &copy, NULL));
        unit_free(own->text);
        own->text = copy;
        if (!own->due)
                TAILQ_INSERT_TAIL(&p->due, own, due_units);
        own->due = true;
        loop_defer(p->host->io.loop, &p->next);
        return 0;
}

/* -- The unit under way -- */

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

/* The unit is under way no more: the next one follows. */
static void provider_clear(Provider *p) {
        p->current = NULL;
        provider_free_files(p->credentials, p->n_credentials);
        provider_free_files(p->written, p->n_written);
        text_done(&p->environment);
        p->credentials = p->written = NULL;
        p->n_credentials = p->n_written = p->n_sealed = 0;
        p->environment = (Text) {};
        loop_defer(p->host->io.loop, &p->next);
}

/* The same, and the agent plans it again. */
static void provider_end(Provider *p) {
        const char *unit = p->current->unit.name;

        provider_clear(p);
        agent_wake_unit(p->host->agent, unit);
}

static void provider_succeed(Provider *p) {
        ProvidedUnit *own = p->current;

        own->has = p->state;
        own->text = unit_free(own->text);
        own->problem = (Verdict) {};
        own->delay_ms = own->retry_ms = 0;
        provider_end(p);
}

static void provider_fail(Provider *p, const Verdict *why) {
        ProvidedUnit *own = p->current;
        _cleanup_text_ Text message = {};

        if (verdict_rows[why->code].bad && !verdict_equal(&own->problem, why)) {
                verdict_append(&message, why);
                log_warning(((LogFields) { .unit = own->unit.name }),
                            "Failed to provide the secrets and configuration of %s: %s", own->unit.name,
                            text_chars(&message));
        }
        own->problem = *why;
        own->delay_ms = MIN(MAX(2 * own->delay_ms, (uint64_t) PROVIDER_RETRY_MIN_MS),
                            (uint64_t) PROVIDER_RETRY_MAX_MS);
        own->retry_ms = loop_now_ms(p->host->io.loop) + own->delay_ms;
        (void) timer_start_by(&p->retry, p->host->io.loop, own->retry_ms, 0);
        provider_end(p);
}

static void provider_fail_to_write(Provider *p, int error, const char *message) {
        Verdict why;

        verdict_set(&why, VERDICT_INPUTS_UNWRITTEN, "%s", message && message[0] ? message : strerror(-error));
        provider_fail(p, &why);
}

static void provider_on_written(void *userdata, int error, const char *message) {
        Provider *p = userdata;

        if (error < 0) {
                p->current->has.digest[PROVIDER_LISTS_DIGITS] = 0; /* some may be written: it equals none */
                provider_fail_to_write(p, error, message);
        } else
                provider_succeed(p);
}

static void provider_write(Provider *p) {
        char folder[INPUTS_FOLDER_SIZE];
        InputFileSet set = { .folder = folder,
                             .digest = p->state.digest,
                             .number = p->state.number,
                             .credentials = p->credentials,
                             .n_credentials = p->n_credentials,
                             .files = p->written,
                             .n_files = p->n_written,
                             .environment = text_chars(&p->environment) };
        int r;

        inputs_folder(p->current->unit.name, folder);
        p->stage = PROVIDER_WRITES;
        r = p->files->ops->put(p->files, &set, provider_on_written, p);
        if (r < 0)
                provider_fail_to_write(p, r, NULL);
}

static void provider_seal_next(Provider *p);

static void provider_on_sealed(void *userdata, int error, const char *message, const void *bytes,
                               size_t size) {
        Provider *p = userdata;
        InputFile *f = &p->credentials[p->n_sealed];
        void *sealed = error < 0 ? NULL : malloc(size + 1);
        Verdict why;

        if (!sealed) {
                verdict_set(&why, VERDICT_SECRET_UNSEALED, "%s" VERDICT_NEXT "%s", f->name,
                            message && message[0] ? message : strerror(error < 0 ? -error : ENOMEM));
                provider_fail(p, &why);
                return;
        }
        memcpy(sealed, bytes, size);
        tls_secret_free((void *) f->value, f->size);
        f->value = sealed;
        f->size = size;
        p->n_sealed++;
        provider_seal_next(p);
}

/* Seal one credential after the other, then write. */
static void provider_seal_next(Provider *p) {
        const ComponentHost *host = p->host;
        SealWith form = host->settings->seal_with;
        Sealer *sealer = host->io.input_sealer;
        const InputFile *f;
        Error err = {};
        int r = -EOPNOTSUPP;

        if (p->n_sealed == p->n_credentials) {
                provider_write(p);
                return;
        }
        p->stage = PROVIDER_SEALS;
        f = &p->credentials[p->n_sealed];
        if (sealer)
                r = sealer->ops->seal(sealer,
                                      &(SealerCall) { .form = form == SEAL_WITH_NO ? SEAL_WITH_HOST : form,
                                                      .name = f->name,
                                                      .bytes = f->value,
                                                      .size = f->size,
                                                      .done = provider_on_sealed,
                                                      .userdata = p },
                                      &err);
        if (r < 0)
                provider_on_sealed(p, r, error_text(&err, r), NULL, 0);
}

static void provider_on_resolved(void *userdata, const Resolved *resolved) {
        Provider *p = userdata;
        const ProvidedUnit *own = p->current;
        const Content *content = resolved ? &resolved->content : NULL;
        char lists[SHA256_SIZE];
        Verdict why;
        int r;

        verdict_set(&why, VERDICT_AWAITS_CONTENT, "%s", "");
        if (!content || content->problem.code != VERDICT_NONE) {
                provider_fail(p, content ? &content->problem : &why);
                return;
        }
        r = provider_lists(own->text, lists);
        if (r == 0)
                (void) snprintf(p->state.digest, sizeof(p->state.digest), "%.*s%s", PROVIDER_LISTS_DIGITS,
                                lists, content->digest);
        if (r == 0 && streq(p->state.digest, own->has.digest)) {
                provider_succeed(p);
                return;
        }
        if (r == 0)
                r = provider_copy(content->credentials, content->n_credentials, &p->credentials,
                                  &p->n_credentials);
        if (r == 0)
                r = provider_copy(content->files, content->n_files, &p->written, &p->n_written);
        content_append_environment(&p->environment, content, ends_with(own->unit.name, ".container"));
        if (r < 0 || p->environment.error < 0)
                provider_fail_to_write(p, r < 0 ? r : p->environment.error, NULL);
        else
                provider_seal_next(p);
}

/* Begin with the next unit that is due. */
static void provider_on_next(void *userdata) {
        Provider *p = userdata;
        ProvidedUnit *own = TAILQ_FIRST(&p->due);
        const ClusterAssignment *assignment;
        const InputsRecord *key;
        const ClusterUnit *u;
        int r = -EAGAIN;

        if (p->current || !own)
                return;
        TAILQ_REMOVE(&p->due, own, due_units);
        own->due = false;
        p->current = own;
        p->stage = PROVIDER_RESOLVES;
        key = provider_key(p, own);
        p->state = (InputFileState) { .number = key ? key->number : 0 };
        assignment = provider_assignment(p, own->unit.name);
        u = cluster_any_unit(registry_cluster(p->host->registry), own->unit.name);
        if (key && key->number > 0)
                r = resolver_begin(p->resolver, own->text,
                                   MAX(u->inputs_index, assignment ? assignment->index : 0),
                                   provider_on_resolved, p);
        if (r < 0)
                provider_on_resolved(p, NULL);
}

static void provider_cancel(Provider *p) {
        if (!p->current)
                return;
        if (p->stage == PROVIDER_RESOLVES)
                resolver_cancel(p->resolver, p->current->unit.name);
        else if (p->stage == PROVIDER_SEALS)
                p->host->io.input_sealer->ops->cancel(p->host->io.input_sealer);
        else
                p->files->ops->cancel(p->files);
        provider_clear(p);
}

/* -- The duty -- */

/* Return whether the leader is about to write the first content of the unit: a number in files is of a unit
 * of that name that was destroyed. */
static bool provider_awaits_key(const Provider *p, const char *unit) {
        const Cluster *c = registry_cluster(p->host->registry);
        const ClusterUnit *u = cluster_unit(c, unit);

        return u && c->level >= KV_LEVEL_INPUTS && agent_is_fresh(p->host->agent) &&
               input_policy_is_set(&u->unit->placement.inputs) && u->inputs_index == 0 &&
               !cluster_unit_has_unreadable(u, LAYOUT_INPUTS);
}

int provider_provide(Provider *p, const Unit *text, uint64_t number, Verdict *why) {
        ProvidedUnit *own = named_get(&p->units, text->name, sizeof(*own));
        const InputsRecord *key = own ? provider_key(p, own) : NULL;

        if (!own)
                return -ENOMEM;
        if (provider_awaits_key(p, text->name))
                own->has.number = 0;
        if (own->has.number > 0 && own->has.number >= number && provider_is_for(own, text))
                return 0;
        if (!p->files) {
                verdict_set(why, VERDICT_INPUTS_UNWRITTEN, "%s", strerror(EOPNOTSUPP));
                return -ENODATA;
        }
        TRY(provider_want(p, own, text));
        if (own->problem.code != VERDICT_NONE)
                *why = own->problem;
        else if (key)
                *why = key->problem;
        if (why->code != VERDICT_NONE)
                return -ENODATA;
        verdict_set(why, VERDICT_AWAITS_CONTENT, "%s", "");
        return -EAGAIN;
}

uint64_t provider_provided(const Provider *p, const char *unit) {
        const ProvidedUnit *own = named_find(p->units, unit);

        return own ? own->has.number : 0;
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
 * if the agent does not restart it. Otherwise, the key decides. */
void provider_publish(Provider *p, const DutyUnit *unit) {
        ProvidedUnit *own = named_find(p->units, unit->name);
        const Unit *text = unit->record ? unit->record->unit : NULL;
        const ClusterAssignment *assignment;
        const InputsRecord *key;
        uint64_t number;

        if (!own || !text)
                return;
        key = provider_key(p, own);
        if (!input_policy_is_set(&text->placement.inputs)) {
                if (!key && agent_is_fresh(p->host->agent) && !unit->record->replacing)
                        provider_gone(p, unit->name);
                return;
        }
        assignment = provider_assignment(p, unit->name);
        number = key ? key->number : 0;
        /* A step to another text brings the content with that. */
        if (assignment && assignment->hash[0] && !streq(assignment->hash, text->hash))
                return;
        if (input_policy_restarts(&text->placement.inputs))
                number = assignment ? assignment->inputs : 0;
        /* A step with another text comes first: both would be tried in turn without a pause. */
        if (p->files && number > own->has.number && provider_is_for(own, text) && !own->due &&
            own->retry_ms <= loop_now_ms(p->host->io.loop))
                (void) provider_want(p, own, text); /* without memory, the next pass does */
}

void provider_gone(Provider *p, const char *unit) {
        ProvidedUnit *own = named_find(p->units, unit);
        char folder[INPUTS_FOLDER_SIZE];
        int r;

        if (!own)
                return;
        if (p->current == own)
                provider_cancel(p);
        if (own->due)
                TAILQ_REMOVE(&p->due, own, due_units);
        inputs_folder(own->unit.name, folder);
        r = p->files ? p->files->ops->remove(p->files, folder) : 0;
        if (r < 0 && r != -ENOENT)
                log_warning(((LogFields) { .unit = own->unit.name, .error = r }),
                            "Failed to remove the secrets and configuration of %s: %s", own->unit.name,
                            strerror(-r));
        unit_free(own->text);
        named_remove(&p->units, own->unit.name);
}

/* -- Events -- */

/* What has failed may succeed now. */
static void provider_retry_now(Provider *p, ProvidedUnit *own) {
        if (own->retry_ms == 0)
                return;
        own->delay_ms = own->retry_ms = 0;
        agent_wake_unit(p->host->agent, own->unit.name);
}

static void provider_on_change(void *userdata, const RegistryChange *change) {
        Provider *p = userdata;
        ProvidedUnit *own = change->kind == CHANGED_INPUTS ? named_find(p->units, change->unit) : NULL;

        if (own)
                provider_retry_now(p, own);
        if (change->kind == CHANGED_SECRET || change->kind == CHANGED_ALL)
                for (Named *n = p->units; n; n = n->hh.next)
                        provider_retry_now(p, (ProvidedUnit *) n);
}

static void provider_on_retry(void *userdata) {
        Provider *p = userdata;
        uint64_t now_ms = loop_now_ms(p->host->io.loop);

        for (Named *n = p->units; n; n = n->hh.next) {
                ProvidedUnit *own = (ProvidedUnit *) n;

                if (own->retry_ms > now_ms)
                        (void) timer_start_by(&p->retry, p->host->io.loop, own->retry_ms, 0);
                else if (own->retry_ms > 0) {
                        own->retry_ms = 0;
                        agent_wake_unit(p->host->agent, n->name);
                }
        }
}

/* -- Start and end -- */

/* Return whether this is the folder of a unit, whose name is in *ret. */
static bool provider_unit_of(const char *folder, char ret[static UNIT_NAME_MAX + 1]) {
        char again[INPUTS_FOLDER_SIZE];
        size_t n = 0;

        for (const char *c = folder; *c; c++, n++) {
                unsigned byte = (unsigned char) *c;

                if (n == UNIT_NAME_MAX || (*c == '+' && sscanf(c + 1, "%2X", &byte) != 1))
                        return false;
                c += *c == '+' ? 2 : 0;
                ret[n] = (char) byte;
        }
        ret[n] = 0;
        inputs_folder(ret, again);
        return n > 0 && streq(again, folder);
}

/* Take over what a former daemon or boot has left. The agent looks at each of these units, so that what
 * nothing names is removed (provider_gone()). */
static int provider_restore(Provider *p) {
        char **folders = NULL, unit[UNIT_NAME_MAX + 1];
        ProvidedUnit *own;
        size_t n = 0;
        int r = p->files ? p->files->ops->list(p->files, &folders, &n) : 0;

        if (r < 0 && r != -ENOENT)
                log_warning(((LogFields) { .error = r }),
                            "Failed to list the secrets and configuration of units: %s", strerror(-r));
        r = 0;
        for (size_t i = 0; i < n && r == 0; i++) {
                if (!provider_unit_of(folders[i], unit))
                        continue;
                own = named_get(&p->units, unit, sizeof(*own));
                if (!own) {
                        r = -ENOMEM;
                        break;
                }
                r = p->files->ops->restore(p->files, folders[i], &own->has);
                if (r < 0 && r != -ENOENT)
                        log_warning(((LogFields) { .unit = unit, .error = r }),
                                    "Failed to restore the configuration of %s: %s", unit, strerror(-r));
                if (r < 0)
                        own->has = (InputFileState) {};
                r = 0;
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
                          .retry = TIMER(provider_on_retry, p) };
        TAILQ_INIT(&p->due);
        registry_observe(host->registry, &p->observer);
        *ret = p;
        return provider_restore(p);
}

Provider *provider_free(Provider *p) {
        if (!p)
                return NULL;

        registry_unobserve(p->host->registry, &p->observer);
        provider_cancel(p);
        deferred_cancel(&p->next);
        timer_stop(&p->retry);
        for (Named *n = p->units; n; n = n->hh.next)
                unit_free(((ProvidedUnit *) n)->text);
        named_clear(&p->units);
        free(p);
        return NULL;
}
