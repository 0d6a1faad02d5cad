/* Changes of units: one by PUT or DELETE, many by a batch. What the client expects is checked here, and again
 * by the store, in the transaction. */
#include "fleetd/api/fleet_v1.h"

#include "base/log.h"
#include "fleetd/registry/newer_options.h"
#include "fleetd/registry/revision_view.h"
#include "units/name.h"

/* -- The journal of changes -- */

typedef struct ChangeLine {
        char *unit, *machine; /* fields; one is NULL */
        Text text;
} ChangeLine;

/* Request.state of a request whose changes are logged with their outcome. */
struct ChangeLines {
        size_t n;
        ChangeLine items[];
};

/* Log each change with its outcome, once. */
static void change_lines_log(ChangeLines *lines, uint64_t index, const char *outcome, const char *reason) {
        for (size_t i = 0; i < lines->n; i++) {
                ChangeLine *line = &lines->items[i];

                log_info(((LogFields) { .unit = line->unit, .machine = line->machine, .index = index }),
                         "%s; %s%s%s", line->text.chars ?: "", outcome, reason ? ": " : "", reason ?: "");
                free(line->unit);
                free(line->machine);
                text_done(&line->text);
        }
        lines->n = 0;
}

static void change_lines_on_end(Request *request) {
        change_lines_log(request->state, 0, "outcome unknown", "the connection of the client ended first");
        free(request->state);
}

ChangeLines *change_lines_new(Request *request, size_t n) {
        request->state = calloc(1, sizeof(ChangeLines) + n * sizeof(ChangeLine));
        if (request->state)
                request->on_end = change_lines_on_end;
        return request->state;
}

Text *change_lines_add(ChangeLines *lines, const char *unit, const char *machine) {
        ChangeLine *line = &lines->items[lines->n++];

        line->unit = unit ? strdup(unit) : NULL;
        line->machine = machine ? strdup(machine) : NULL;
        return &line->text;
}

/* -- Changes of the registry -- */

unsigned change_sent(Request *request, const char *subject, int r) {
        request->changing = r >= 0;
        request->subject = subject;
        request->success = request->success ?: 204;
        if (r < 0)
                request_error(request, 500, "%s", strerror(-r));
        return 0;
}

/* Return the status to answer to a change that failed, and set the message. */
static unsigned change_failed(const Request *request, KvStatus status, const char *message, Error *ret) {
        switch (status) {
        case KV_COMPARE_FAILED:
        case KV_EXISTS:
        case KV_NOT_FOUND:
                return error_set(ret, 409, "another request changed %s meanwhile; try again",
                                 request->subject);
        case KV_UNKNOWN:
                return error_set(ret, 504, "%s; the outcome is unknown: read %s again", message,
                                 request->subject);
        case KV_TOO_LARGE:
                return error_set(ret, 413, "%s", message);
        default:
                return error_set(ret, 503, "%s", message);
        }
}

void change_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Request *request = userdata;
        unsigned failed;
        Error err = {};

        request->changing = false;
        if (status == KV_OK) {
                request_answer(request, request->success, request->type, NULL, "", 0);
                return;
        }
        failed = change_failed(request, status, message, &err);
        request_error(request, failed, "%s", err.message);
}

unsigned change_lines_sent(Request *request, const char *subject, unsigned success, const char *type, int r) {
        if (r < 0)
                change_lines_log(request->state, 0, "rejected", strerror(-r));
        request->success = success;
        request->type = type;
        return change_sent(request, subject, r);
}

void change_lines_on_done(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Request *request = userdata;
        Error err = {};

        if (status == KV_OK)
                change_lines_log(request->state, index, "done", NULL);
        else if (status == KV_UNKNOWN)
                change_lines_log(request->state, 0, "outcome unknown", message);
        else {
                (void) change_failed(request, status, message, &err);
                change_lines_log(request->state, 0, "rejected", err.message);
        }
        change_on_done(request, status, message, index);
}

void change_on_decided(void *userdata, KvStatus status, const char *message, uint64_t index) {
        Request *request = userdata;

        if (status != KV_COMPARE_FAILED) {
                change_on_done(request, status, message, index);
                return;
        }
        request->changing = false;
        if (!request_decide_again(request))
                request_error(request, 409, "another request changed %s meanwhile; try again",
                              request->subject);
}

/* Describe the request of a user: the history of the cluster ends at a restore, and the journal does not. */
static void units_describe(const Request *request, const UnitChange *change, Text *t) {
        const char *name = change->unit ? change->unit->name : change->name;
        uint64_t revision = change->unit ? registry_former_revision(request_registry(request), change->unit) :
                                           0;

        text_printf(t, "%s requested a change of %s: ", *change->user ? change->user : request->sender->text,
                    name);
        if (change->remove)
                text_append(t, "removal");
        else if (revision > 0)
                text_printf(t, "return to revision %llu, ", (unsigned long long) revision);
        else if (change->unit)
                text_append(t, "new text, ");
        if (!change->remove)
                text_printf(t, "target state %s", target_state_to_string(change->target));
}

static unsigned units_change(Request *request, unsigned success, UnitChange *changes, size_t n, Error *err) {
        ChangeLines *lines = change_lines_new(request, n);
        const char *user = request_user(request);

        if (!lines)
                return error_set(err, 500, "out of memory");
        for (size_t i = 0; i < n; i++) {
                const char *name = changes[i].unit ? changes[i].unit->name : changes[i].name;

                changes[i].user = user;
                units_describe(request, changes + i, change_lines_add(lines, name, NULL));
        }
        return change_lines_sent(
                request, "the unit", success, NULL,
                registry_change_units(request_registry(request), changes, n, change_lines_on_done, request));
}

/* The change that one PUT, or one item of a batch, requests. */
typedef struct UnitWrite {
        UnitChange change;
        Unit *unit; /* owned; NULL: only the target changes */
        unsigned success;
} UnitWrite;

static void write_done(UnitWrite *write) {
        unit_free(write->unit);
}

/* Reject the change of a unit that a directory owns: the next scan of the folder would undo it. On the host
 * of the folder, a unit whose file does not exist may be changed: the directory holds such units when many
 * files vanish at once. */
static bool belongs_to_directory(Request *request, const ClusterUnit *u, const char *verb, Error *err) {
        const Cluster *c = request_cluster(request);
        const ClusterMachine *owner = u->unit->owner ? cluster_machine(c, u->unit->owner) : NULL;

        if (!owner || owner->presence != PRESENCE_UP)
                return false;
        if (streq(owner->id, request->api->settings->machine_id) && u->unit->path &&
            access(u->unit->path, F_OK) < 0 && errno == ENOENT)
                return false;
        (void) error_set(err, 409, "%s comes from %s on %s; %s the file there", u->name,
                         u->unit->path ?: "the unit directory", cluster_machine_name(owner), verb);
        return true;
}

int units_count_options(const Unit *unit, size_t *n, Error *err) {
        *n += unit->file.n_options + unit->file.n_sections;
        if (*n <= OPTIONS_READ_MAX)
                return 0;
        return error_set(err, -E2BIG,
                         "the units of the request have too many options and sections (more than %d): send "
                         "fewer units at once",
                         OPTIONS_READ_MAX);
}

/* Return 409 if this daemon cannot read the unit, which it would overwrite. */
static unsigned refuse_unreadable(Request *request, const char *name, Error *err) {
        const ClusterUnit *u = cluster_any_unit(request_cluster(request), name);

        if (!u ||
            (!cluster_unit_has_unreadable(u, LAYOUT_UNIT) && !cluster_unit_has_unreadable(u, LAYOUT_TARGET)))
                return 0;
        return error_set(err, 409, "the unit cannot be changed here: %s", CLUSTER_UNREADABLE);
}

/* Return whether the unit has the text of its template, and does not follow it yet: it was created before the
 * template, or had another text. A request with that text and a target state makes it follow. */
static bool change_joins(const Request *request, const ApiUnit *body, const ClusterUnit *known) {
        size_t own;
        const ClusterUnit *template = cluster_template(request_cluster(request), known->name);

        return template && template->unit && body->desired_state != _TARGET_INVALID &&
               request_level(request) >= KV_LEVEL_UPDATES &&
               unit_has_text_of(known->unit, template->unit, &own) &&
               !(known->unit->from && streq(known->unit->from, template->name));
}

/* Return whether the text is a former one of the unit. A unit of a directory may return to it: it stays one
 * of the directory, which does not submit the text that was left again. */
static bool change_reverts(const Request *request, const Unit *next, const ClusterUnit *known) {
        return request_level(request) >= KV_LEVEL_UPDATES && !known->unit->from &&
               revisions_find(&known->unit->revisions, 0, next->hash);
}

/* Return whether a target state of the unit has an effect: that of a template is that of its replicas. */
static bool can_have_target(const Unit *unit) {
        return !unit_name_is_template(unit->name) || unit->placement.replicas >= 0;
}

/* A scaled number counts for a new text with the same Replicas=, too. */
static int write_replicas(const ClusterUnit *known, const Unit *next, Error *err) {
        int n = cluster_replicas(known), file = next->placement.replicas;

        return n > 0 && file == known->unit->placement.replicas ?
                       unit_check_replicas(next, (unsigned) n, err) :
                       0;
}

/* Read what the request wants for the rollout of its text. */
static unsigned write_update(const Request *request, const char *name, const ApiUnit *body, Unit *unit,
                             Error *err) {
        UpdateRequest *update = &unit->revisions.wanted.update;
        unsigned level = request_level(request);

        if (update_request_read(body->canary, body->on_failure, update, err) < 0)
                return error_prefix(err, 400, "%s", name);
        if (!update_request_is_empty(update) && level < KV_LEVEL_UPDATES)
                return error_set(err, 409,
                                 "%s: canary and on-failure begin at feature level %d, and this cluster has "
                                 "level %u",
                                 name, KV_LEVEL_UPDATES, level);
        return 0;
}

static unsigned write_contents(Request *request, const char *name, const ApiUnit *body,
                               const ClusterUnit *known, UnitWrite *ret, Error *err) {
        TargetState target = body->desired_state == _TARGET_INVALID ? TARGET_INACTIVE : body->desired_state;
        const char *reason;
        unsigned status;
        bool same;
        int r;

        if (unit_name_is_refused(name, &reason))
                return error_set(err, 400, "%s: %s", name, reason);
        r = api_unit_contents(name, body, &ret->unit, err);
        if (r >= 0)
                r = units_count_options(ret->unit, &request->options, err);
        same = r >= 0 && known && unit_equal(known->unit, ret->unit) && !change_joins(request, body, known);
        if (r >= 0 && !same)
                r = unit_check(ret->unit, &request->steps, err);
        if (r < 0 && !err->message[0])
                error_set(err, r, "out of memory");
        if (r < 0)
                return request_status_of(r);
        if (!known && body->desired_state == _TARGET_INVALID && can_have_target(ret->unit))
                target = ret->unit->placement.target;
        if (known && body->desired_state == known->target && !can_have_target(ret->unit))
                target = TARGET_INACTIVE; /* its replicas stay as they are */
        status = write_update(request, name, body, ret->unit, err);
        if (status > 0)
                return status;
        if (!same && known && write_replicas(known, ret->unit, err) < 0)
                return 400;
        if (!same && cluster_check_options(ret->unit, request_level(request), err) < 0)
                return error_prefix(err, 409, "%s", name);
        r = same ? 0 : cluster_check_followers(request_cluster(request), ret->unit, &request->checked, err);
        if (r == -ENOMEM)
                return error_set(err, 500, "out of memory");
        if (r < 0)
                return error_prefix(err, 400, "%s", name);
        if (same && body->desired_state == _TARGET_INVALID)
                return error_set(err, 409, "must provide DesiredState to update existing unit");
        if (target != TARGET_INACTIVE && !can_have_target(ret->unit))
                return error_set(err, 400, "cannot activate template \"%s\"", name);
        if (same) {
                ret->change = (UnitChange) { .name = name, .has_target = true, .target = target };
                ret->success = 204;
                return 0;
        }
        if (known && known->unit->owner && change_reverts(request, ret->unit, known)) {
                if (unit_set_owner(ret->unit, known->unit->owner, known->unit->path) < 0)
                        return error_set(err, 500, "out of memory");
        } else if (known && belongs_to_directory(request, known, "edit", err))
                return 409;
        if (known && cluster_revisions_are_full(known, &ret->unit->placement))
                return error_set(
                        err, 503,
                        "%s has twice as many revisions as KeepRevisions= keeps; repeat the request when "
                        "the leader has deleted the oldest",
                        name);
        /* A new text of a template is no request to stop its replicas. */
        ret->change = (UnitChange) { .unit = ret->unit,
                                     .has_target = !known || body->desired_state != _TARGET_INVALID ||
                                                   ret->unit->placement.replicas < 0,
                                     .target = target,
                                     .only_if_absent = !known,
                                     .expected_index = known ? known->index : 0 };
        ret->success = 201;
        return 0;
}

/* Return 409 if the unit is not what the client expects. Expectations that hold here become conditions of
 * 'ret', which the store checks. */
static unsigned write_expectations(const ApiUnit *body, const ClusterUnit *known, UnitChange *ret,
                                   Error *err) {
        if (!body->expected_hash && body->expected_state == _TARGET_INVALID)
                return 0;
        if (!known)
                return error_set(err, 409, "unit does not exist any longer");
        if (body->expected_hash && !streq(body->expected_hash, known->unit->hash))
                return error_set(err, 409, "the unit was changed meanwhile: its hash is %.7s, not %.7s",
                                 known->unit->hash, body->expected_hash);
        if (body->expected_state != _TARGET_INVALID && body->expected_state != known->target)
                return error_set(err, 409, "the unit was changed meanwhile: its target state is %s, not %s",
                                 target_state_to_string(known->target),
                                 target_state_to_string(body->expected_state));
        if (body->expected_hash)
                ret->expected_index = known->index;
        ret->has_expected_target = body->expected_state != _TARGET_INVALID;
        ret->expected_target = body->expected_state;
        return 0;
}

static unsigned write_removal(Request *request, const char *name, const ClusterUnit *known, UnitWrite *ret,
                              Error *err) {
        if (!known)
                return error_set(err, 404, "unit does not exist");
        if (belongs_to_directory(request, known, "remove", err))
                return 409;
        ret->change = (UnitChange) { .name = name, .remove = true, .expected_index = known->index };
        ret->success = 204;
        return 0;
}

/* Return 0, or the status to answer with the message in 'err'. */
static unsigned write_change(Request *request, const char *name, const ApiUnit *body,
                             const ClusterUnit *known, UnitWrite *ret, Error *err) {
        if (body->destroy)
                return write_removal(request, name, known, ret, err);
        if (known && body->keep)
                return error_set(err, 409, "unit exists");
        if (api_unit_has_contents(body))
                return write_contents(request, name, body, known, ret, err);
        if (!known)
                return error_set(err, 409, "unit does not exist and options field empty");
        if (body->desired_state == _TARGET_INVALID)
                return error_set(err, 409, "must provide DesiredState to update existing unit");
        if (body->desired_state != TARGET_INACTIVE && !can_have_target(known->unit))
                return error_set(err, 400, "cannot activate template \"%s\"", name);
        ret->change = (UnitChange) { .name = name, .has_target = true, .target = body->desired_state };
        ret->success = 204;
        return 0;
}

/* Read the change of one PUT, or of one item of a batch. Return 0, or the status to answer with the message
 * in 'err'. */
static unsigned write_read(Request *request, const char *name, const ApiUnit *body, UnitWrite *ret,
                           Error *err) {
        const ClusterUnit *known = cluster_unit(request_cluster(request), name);
        unsigned status;

        if (unit_name_check(name, err) < 0)
                return 400;
        status = refuse_unreadable(request, name, err);
        if (status > 0)
                return status;
        status = write_change(request, name, body, known, ret, err);
        if (status > 0)
                return status;
        return write_expectations(body, known, &ret->change, err);
}

static bool content_type_is_json(const Request *request, Error *err) {
        const HttpRequest *http = request->http;
        const char *type = http->content_type ?: "";
        size_t n = strcspn(type, ";");

        while (n > 0 && (type[n - 1] == ' ' || type[n - 1] == '\t'))
                n--;

        if (http->n_content_types != 1)
                error_set(err, 415, "expected 1 Content-Type, got %u", http->n_content_types);
        else if (n != 16 || strncmp(type, "application/json", 16) != 0)
                error_set(err, 415, "only acceptable Content-Type is application/json");
        else
                return true;
        return false;
}

unsigned units_put_handle(Request *request, Error *err) {
        const char *name = request->rest;
        _cleanup_api_unit_ ApiUnit body = API_UNIT_EMPTY;
        _cleanup_(write_done) UnitWrite write = {};
        unsigned status;
        int r;

        if (!content_type_is_json(request, err))
                return 415;
        r = api_unit_read(request->http->body, request->http->body_size, &body, err);
        if (r < 0)
                return request_body_refused(r, err);
        if (body.name && body.name[0] && !streq(body.name, name))
                return error_set(err, 400, "name in URL \"%s\" differs from unit name in request body \"%s\"",
                                 name, body.name);
        if (body.destroy)
                return error_set(err, 400, "destroy is for a batch: use DELETE");
        status = write_read(request, name, &body, &write, err);
        return status > 0 ? status : units_change(request, write.success, &write.change, 1, err);
}

unsigned units_delete_handle(Request *request, Error *err) {
        const char *name = request->rest;
        const ClusterUnit *known = cluster_unit(request_cluster(request), name);
        _cleanup_(write_done) UnitWrite write = {};
        unsigned status;

        status = refuse_unreadable(request, name, err) ?: write_removal(request, name, known, &write, err);
        return status > 0 ? status : units_change(request, write.success, &write.change, 1, err);
}

/* -- Batches -- */

typedef struct UnitWrites {
        UnitWrite *items;
        UnitChange *changes;
        size_t n;
} UnitWrites;

static void writes_done(UnitWrites *w) {
        for (size_t i = 0; i < w->n; i++)
                write_done(&w->items[i]);
        free(w->items);
        free(w->changes);
}

/* Return 0, or the status to answer; the message begins with the name of the unit. */
static unsigned writes_read(Request *request, const ApiPage *page, UnitWrites *ret, Error *err) {
        size_t text_size = 0;

        ret->items = NEW0(UnitWrite, page->n + 1);
        ret->changes = NEW0(UnitChange, page->n + 1);
        if (!ret->items || !ret->changes)
                return error_set(err, 500, "out of memory");
        for (size_t i = 0; i < page->n; i++) {
                const char *name = page->units[i].name ?: "";
                unsigned status = write_read(request, name, &page->units[i], &ret->items[ret->n++], err);
                const Unit *unit = ret->items[i].change.unit;

                text_size += unit ? unit->text_size : 0;
                if (status == 0 && text_size > KV_COMMAND_MAX) /* do not read the others in vain */
                        status = error_set(err, 413,
                                           "the new texts of the batch have more than %d KiB: send fewer "
                                           "units at once",
                                           KV_COMMAND_MAX / 1024);

                for (size_t k = 0; status == 0 && k < i; k++)
                        if (streq(page->units[k].name, name))
                                status = error_set(err, 400, "named twice");
                if (status > 0) {
                        (void) error_prefix(err, -EINVAL, "%s", name);
                        return status;
                }
                ret->changes[i] = ret->items[i].change;
        }
        return 0;
}

unsigned batch_handle(Request *request, Error *err) {
        _cleanup_api_page_ ApiPage page = {};
        _cleanup_(writes_done) UnitWrites writes = {};
        unsigned status;
        int r;

        if (!content_type_is_json(request, err))
                return 415;
        r = api_units_read(request->http->body, request->http->body_size, BATCH_MAX, &page, err);
        if (r == -E2BIG)
                r = error_set(err, -EINVAL, "more than %d units in one batch", BATCH_MAX);
        if (r < 0)
                return request_body_refused(r, err);
        status = writes_read(request, &page, &writes, err);
        return status > 0 ? status : units_change(request, 204, writes.changes, writes.n, err);
}
