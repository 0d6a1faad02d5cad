#include "fleetd/api/fleet_v1.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "fleetd/engine/plan.h"
#include "units/name.h"

/* -- Pages: a token is base64 of two little-endian 16-bit numbers, limit and page. Where a page before it
 * ended early, what fleet does not read follows: the position of the first item, 32 bits. -- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static void token_write(unsigned page, size_t first, char ret[static 16]) {
        uint8_t b[9] = { PAGE_SIZE & 0xff, PAGE_SIZE >> 8,    page & 0xff,        page >> 8,
                         first & 0xff,     first >> 8 & 0xff, first >> 16 & 0xff, first >> 24 & 0xff };
        size_t n = first == (size_t) (page - 1) * PAGE_SIZE ? 4 : 8;
        char *end = ret;

        memset(b + n, 0, sizeof(b) - n);
        for (unsigned i = 0; 3 * i < n; i++) {
                uint32_t v = (uint32_t) b[3 * i] << 16 | (uint32_t) b[3 * i + 1] << 8 | b[3 * i + 2];

                for (unsigned k = 0; k < 4; k++)
                        *end++ = alphabet[(v >> (18 - 6 * k)) & 63];
        }
        *end = 0;
        for (; n % 3 > 0; n++)
                *--end = '=';
}

/* Bytes of 's', at most 'size' of them are kept: how many there are, or -EINVAL and where it is wrong, as
 * Go's decoder sees it: line ends do not count, padding is due, nothing may follow it. */
static int token_decode(const char *s, uint8_t *ret, size_t size, size_t *ret_n, size_t *ret_at) {
        size_t n_bytes = 0, n = strlen(s), i = 0;
        bool padded = false;

        for (;;) {
                uint32_t v = 0;
                unsigned k = 0;

                for (; k < 4 && !padded; i++) {
                        const char *at = i < n ? strchr(alphabet, s[i]) : NULL;

                        if (i >= n && k == 0) {
                                *ret_n = n_bytes;
                                return 0;
                        }
                        if (at) {
                                v |= (uint32_t) (at - alphabet) << (18 - 6 * k++);
                                continue;
                        }
                        if (s[i] == '\r' || s[i] == '\n')
                                continue;
                        *ret_at = i < n ? i : i - k;
                        if (s[i] != '=' || k < 2)
                                return -EINVAL;
                        for (unsigned due = 4 - k; due > 1; due--) {
                                i += 1 + strspn(s + i + 1, "\r\n");
                                *ret_at = i < n ? i - 1 : n;
                                if (s[i] != '=')
                                        return -EINVAL;
                        }
                        padded = true;
                }
                for (unsigned b = 0; b + 1 < k; b++, n_bytes++)
                        if (n_bytes < size)
                                ret[n_bytes] = v >> (16 - 8 * b);
                if (!padded)
                        continue;
                i += strspn(s + i, "\r\n");
                *ret_n = n_bytes;
                *ret_at = i;
                return i < n ? -EINVAL : 0;
        }
}

static int token_read(const char *s, unsigned *ret_page, size_t *ret_first, char *ret_problem, size_t size) {
        uint8_t b[8] = {};
        size_t n, at;

        if (token_decode(s, b, sizeof(b), &n, &at) < 0) {
                snprintf(ret_problem, size, "illegal base64 data at input byte %zu", at);
                return -EINVAL;
        }
        if (n < 4) {
                snprintf(ret_problem, size, "%s", n == 0 ? "EOF" : "unexpected EOF");
                return -EINVAL;
        }
        if ((b[0] | b[1] << 8) != PAGE_SIZE) {
                snprintf(ret_problem, size, "token limit must be %d", PAGE_SIZE);
                return -EINVAL;
        }
        *ret_page = b[2] | b[3] << 8;
        if (*ret_page == 0) {
                snprintf(ret_problem, size, "token page must be greater than zero");
                return -EINVAL;
        }
        *ret_first = n < 8 ? (size_t) (*ret_page - 1) * PAGE_SIZE :
                             (size_t) b[4] | b[5] << 8 | b[6] << 16 | (size_t) b[7] << 24;
        return 0;
}

bool page_of(Request *request, size_t total, Page *ret) {
        const char *token = NULL;
        char problem[64];

        *ret = (Page) { .total = total, .number = 1 };
        for (size_t i = 0; i < request->parameters.n; i++) {
                if (!streq(request->parameters.items[i].name, "nextPageToken"))
                        continue;
                if (token) {
                        request_error(request, 400, "too many values for page token");
                        return false;
                }
                token = request->parameters.items[i].value;
        }
        if (token && token_read(token, &ret->number, &ret->first, problem, sizeof(problem)) < 0) {
                request_error(request, 400, "%s", problem);
                return false;
        }
        ret->first = MIN(ret->first, total);
        ret->n = MIN(total - ret->first, (size_t) PAGE_SIZE);
        return true;
}

const char *page_next(Page *page) {
        size_t end = page->first + page->n;

        if (end == page->total)
                return NULL;
        token_write(MIN(page->number + 1, (unsigned) UINT16_MAX), end, page->token);
        return page->token;
}

/* -- Units, as they are told -- */

bool machine_is_there(const ClusterMachine *machine) {
        return machine->presence == PRESENCE_UP || machine->presence == PRESENCE_AWAY;
}

/* Of a unit that has an order on 'where'. */
static void order_reason(const Request *request, const SchedulerView *view, const ClusterUnit *u,
                         const ClusterMachine *where, const ClusterAssignment *order, Error *ret) {
        const Api *api = request->api;
        uint64_t brake_ms = api->options.brake_ms ? api->options.brake_ms(api->options.userdata) : 0;
        const char *name = cluster_machine_name(where);
        const ClusterMachine *other = NULL;
        EngineVerdict verdict = ENGINE_STAYS;
        Error why = {}, next = {};

        if (!u->unit->placement.global &&
            engine_judge(view, registry_cluster(api->options.registry), order, brake_ms, &verdict, &why) < 0)
                return;
        if ((verdict == ENGINE_GONE || verdict == ENGINE_UNFIT) &&
            scheduler_pick(view, u, &other, &next) >= 0)
                error_set(&next, 0, "%s is about to take it over", cluster_machine_name(other));
        switch (verdict) {
        case ENGINE_FINISHED:
                error_set(ret, 0, "finished on %s: it has ended as it should, and is not run again", name);
                break;
        case ENGINE_BRAKED:
                error_set(ret, 0, "waits: %s is lost, with so many others that nothing moves for now", name);
                break;
        case ENGINE_GONE:
                error_set(ret, 0, "waits: %s is %s; %s", name, presence_to_string(where->presence),
                          next.message);
                break;
        case ENGINE_UNFIT:
                error_set(ret, 0, "waits: on %s %s; %s", name, why.message, next.message);
                break;
        default:
                error_set(ret, 0, "%s", order->reason ?: "");
        }
}

void unit_reason(const Request *request, const SchedulerView *view, const ClusterUnit *u, Error *ret) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterMachine *where = NULL;
        const ClusterAssignment *assignment;

        *ret = (Error) {};
        if (cluster_unit_is_unreadable(u)) {
                error_set(ret, 0, "left as it is: %s", CLUSTER_UNREADABLE);
                return;
        }
        if (c->adopting && u->target != TARGET_INACTIVE) {
                error_set(ret, 0,
                          "waits: the cluster was recovered or restored, and not all its hosts have said yet "
                          "what runs on them");
                return;
        }
        (void) cluster_current_state(c, u, &where);
        assignment = where ? cluster_assignment(c, where->id, u->name) : NULL;
        if (assignment)
                order_reason(request, view, u, where, assignment, ret);
        else if (u->target == TARGET_INACTIVE)
                error_set(ret, 0, "not wanted: its target state is inactive");
        else if (!u->unit->placement.global)
                (void) scheduler_pick(view, u, &where, ret);
}

const ClusterMachine *unit_machine(const Cluster *c, const char *unit) {
        const ClusterMachine *found = NULL;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next) {
                const ClusterAssignment *o = cluster_assignment(c, m->id, unit);

                if (o && o->kind != ASSIGNMENT_STOP && (!found || machine_is_there(m)))
                        found = m;
        }
        for (const ClusterMachine *m = c->machines; m && !found; m = m->hh.next)
                if (machine_is_there(m) && cluster_state(c, m->id, unit))
                        found = m;
        return found;
}

/* Fills what is told of 'u'; strings borrow from the cluster and 'why'. */
static ApiUnit unit_entity(const Request *request, const SchedulerView *view, const ClusterUnit *u,
                           Error *why) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterMachine *where = NULL;
        bool global = u->unit && u->unit->placement.global;
        TargetState current = cluster_current_state(c, u, &where);
        TargetState target = cluster_unit_has_unreadable(u, LAYOUT_TARGET) ? _TARGET_INVALID : u->target;

        unit_reason(request, view, u, why);
        if (!u->unit)
                return (ApiUnit) { .name = u->name,
                                   .desired_state = target,
                                   .current_state = current,
                                   .expected_state = _TARGET_INVALID,
                                   .machine_id = where ? where->id : NULL,
                                   .reason = why->message };
        return (ApiUnit) {
                .name = u->name,
                .file = u->unit->json_size <= UNIT_JSON_MAX ? &u->unit->file :
                                                              NULL, /* a larger one was stored by a former
                                                                       version; its text has all options */
                .desired_state = target,
                .current_state = global ? _TARGET_INVALID : current,
                .expected_state = _TARGET_INVALID,
                .machine_id = where && !global ? where->id : NULL,
                .hash = u->unit->hash,
                .text = u->unit->text,
                .reason = why->message,
                .owner = u->unit->owner,
                .global = global,
        };
}

void units_list_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_free_ ClusterUnit **units = NULL;
        SchedulerView *view = NULL;
        size_t total = 0, known = 0, bytes = 0;
        _cleanup_text_ Text t = {};
        Page page;

        units = cluster_units_sorted(c, &total);
        for (size_t i = 0; units && i < total; i++)
                if (cluster_unit_exists(units[i]))
                        units[known++] = units[i];
        if (!units || scheduler_view_new(c, c->now_ms, &view) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (page_of(request, known, &page)) {
                _cleanup_free_ ApiUnit *entities = NEW0(ApiUnit, page.n + 1);
                _cleanup_free_ Error *why = NEW0(Error, page.n + 1);

                for (size_t i = 0; entities && why && i < page.n; i++) {
                        const ClusterUnit *u = units[page.first + i];

                        entities[i] = unit_entity(request, view, u, &why[i]);
                        bytes += u->unit ? u->unit->json_size : 0;
                        if (bytes >= PAGE_BYTES || scheduler_view_work(view) >= PAGE_WORK)
                                page.n = i + 1;
                }
                if (entities && why)
                        api_units_page_write(&t, entities, page.n, page_next(&page));
                else
                        t.error = -ENOMEM;
                request_answer_json(request, 200, &t);
        }
        scheduler_view_free(view);
}

void units_get_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterUnit *u = cluster_any_unit(c, request->rest);
        SchedulerView *view = NULL;
        _cleanup_text_ Text t = {};
        ApiUnit entity;
        Error why;

        if (!cluster_unit_exists(u)) {
                request_error(request, 404, "unit does not exist");
                return;
        }
        if (scheduler_view_new(c, c->now_ms, &view) < 0) {
                request_error(request, 500, "out of memory");
                return;
        }
        entity = unit_entity(request, view, u, &why);
        api_unit_write(&t, &entity);
        scheduler_view_free(view);
        request_answer_json(request, 200, &t);
}

/* -- Changing the registry -- */

struct ChangeWork {
        Request *request;
        unsigned success; /* the status when all went well */
        const char *type; /* of the answer that has no body */
};

static void change_forget(Request *request) {
        registry_cancel(request->api->options.registry, request->state);
        free(request->state);
}

ChangeWork *change_new(Request *request, unsigned success, const char *type) {
        ChangeWork *w = NEW0(ChangeWork, 1);

        if (w)
                *w = (ChangeWork) { .request = request, .success = success, .type = type };
        return w;
}

void change_sent(Request *request, ChangeWork *w, int r) {
        if (r < 0) {
                free(w);
                request_error(request, 500, "%s", strerror(-r));
                return;
        }
        request->state = w;
        request->forget = change_forget;
}

void change_on_done(void *userdata, KvStatus status, const char *sentence, uint64_t index) {
        ChangeWork *w = userdata;
        Request *request = w->request;
        const char *type = w->type;
        unsigned success = w->success;

        request->forget = NULL;
        free(w);
        switch (status) {
        case KV_OK:
                request_answer(request, success, type, NULL, "", 0);
                break;
        case KV_COMPARE_FAILED:
        case KV_EXISTS:
        case KV_NOT_FOUND:
                request_error(request, 409, "the unit was changed by somebody else meanwhile; look again");
                break;
        case KV_UNKNOWN:
                request_error(request, 504, "%s; whether it happened is not known yet: look again", sentence);
                break;
        case KV_TOO_LARGE:
                request_error(request, 413, "%s", sentence);
                break;
        default:
                request_error(request, 503, "%s", sentence);
        }
}

static void units_change(Request *request, const UnitChange *change, unsigned success) {
        ChangeWork *w = change_new(request, success, NULL);

        change_sent(request, w,
                    w ? registry_change_units(request->api->options.registry, change, 1, change_on_done, w) :
                        -ENOMEM);
}

/* What one PUT, or one item of a batch, comes to: a change, or a status and a sentence. */
typedef struct Wish {
        UnitChange change;
        Unit *unit; /* owned; NULL: only the target changes */
        unsigned success;
} Wish;

static void wish_done(Wish *wish) {
        unit_free(wish->unit);
}

static unsigned refuse(Error *err, unsigned status, const char *format, ...) _printf_(3, 4);
static unsigned refuse(Error *err, unsigned status, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        vsnprintf(err->message, sizeof(err->message), format, ap);
        va_end(ap);
        return status;
}

/* A unit of a directory is changed there: here the next look at the folder would undo it. Where that folder
 * is, a file that is gone counts as gone: units that the directory keeps because too many files vanished at
 * once have to end somehow. */
static bool belongs_to_directory(Request *request, const ClusterUnit *u, const char *verb, Error *err) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        const ClusterMachine *owner = u->unit->owner ? cluster_machine(c, u->unit->owner) : NULL;

        if (!owner || owner->presence != PRESENCE_UP)
                return false;
        if (streq(owner->id, request->api->machine_id) && u->unit->path && access(u->unit->path, F_OK) < 0 &&
            errno == ENOENT)
                return false;
        (void) refuse(err, 409, "%s comes from %s on %s; %s the file there", u->name,
                      u->unit->path ?: "the unit directory", cluster_machine_name(owner), verb);
        return true;
}

/* 409 where the unit may not be changed by a daemon that cannot read what is there. */
static unsigned refuse_unreadable(Request *request, const char *name, Error *err) {
        const ClusterUnit *u = cluster_any_unit(registry_cluster(request->api->options.registry), name);

        if (!u ||
            (!cluster_unit_has_unreadable(u, LAYOUT_UNIT) && !cluster_unit_has_unreadable(u, LAYOUT_TARGET)))
                return 0;
        return refuse(err, 409, "the unit cannot be changed here: %s", CLUSTER_UNREADABLE);
}

static unsigned wish_contents(Request *request, const char *name, const ApiUnit *body,
                              const ClusterUnit *known, Wish *ret, Error *err) {
        TargetState target = body->desired_state == _TARGET_INVALID ? TARGET_INACTIVE : body->desired_state;
        const char *reason;
        bool same;
        int r;

        if (unit_name_is_refused(name, &reason))
                return refuse(err, 400, "%s: %s", name, reason);
        r = api_unit_contents(name, body, &ret->unit, err);
        same = r >= 0 && known && unit_equal(known->unit, ret->unit);
        if (r >= 0 && !same)
                r = unit_check(ret->unit, &request->steps, err);
        if (r < 0)
                return err->message[0] ? request_status_of(r) :
                                         refuse(err, request_status_of(r), "out of memory");
        if (same && body->desired_state == _TARGET_INVALID)
                return refuse(err, 409, "must provide DesiredState to update existing unit");
        if (unit_name_is_template(name) && target != TARGET_INACTIVE)
                return refuse(err, 400, "cannot activate template \"%s\"", name);
        if (same) {
                ret->change = (UnitChange) { .name = name, .has_target = true, .target = target };
                ret->success = 204;
                return 0;
        }
        if (known && belongs_to_directory(request, known, "edit", err))
                return 409;
        ret->change = (UnitChange) { .unit = ret->unit,
                                     .has_target = true,
                                     .target = target,
                                     .only_if_absent = !known,
                                     .expected_index = known ? known->index : 0 };
        ret->success = 201;
        return 0;
}

/* 409 where the unit is not, or no longer, what the client has seen. The conditions that hold here go into
 * 'ret', for the store to check. */
static unsigned wish_expectations(const ApiUnit *body, const ClusterUnit *known, UnitChange *ret,
                                  Error *err) {
        if (!body->expected_hash && body->expected_state == _TARGET_INVALID)
                return 0;
        if (!known)
                return refuse(err, 409, "unit does not exist any longer");
        if (body->expected_hash && !streq(body->expected_hash, known->unit->hash))
                return refuse(err, 409, "the unit was changed meanwhile: its hash is %.7s, not %.7s",
                              known->unit->hash, body->expected_hash);
        if (body->expected_state != _TARGET_INVALID && body->expected_state != known->target)
                return refuse(err, 409, "the unit was changed meanwhile: its target state is %s, not %s",
                              target_state_to_string(known->target),
                              target_state_to_string(body->expected_state));
        if (body->expected_hash)
                ret->expected_index = known->index;
        ret->has_expected_target = body->expected_state != _TARGET_INVALID;
        ret->expected_target = body->expected_state;
        return 0;
}

static unsigned wish_removal(Request *request, const char *name, const ClusterUnit *known, Wish *ret,
                             Error *err) {
        if (!known)
                return refuse(err, 404, "unit does not exist");
        if (belongs_to_directory(request, known, "remove", err))
                return 409;
        ret->change = (UnitChange) { .name = name, .remove = true, .expected_index = known->index };
        ret->success = 204;
        return 0;
}

/* 0, or the status to answer with the sentence in 'err'. */
static unsigned wish_change(Request *request, const char *name, const ApiUnit *body, const ClusterUnit *known,
                            Wish *ret, Error *err) {
        if (body->destroy)
                return wish_removal(request, name, known, ret, err);
        if (known && body->keep)
                return refuse(err, 409, "unit exists");
        if (api_unit_has_contents(body))
                return wish_contents(request, name, body, known, ret, err);
        if (!known)
                return refuse(err, 409, "unit does not exist and options field empty");
        if (body->desired_state == _TARGET_INVALID)
                return refuse(err, 409, "must provide DesiredState to update existing unit");
        if (unit_name_is_template(name) && body->desired_state != TARGET_INACTIVE)
                return refuse(err, 400, "cannot activate template \"%s\"", name);
        ret->change = (UnitChange) { .name = name, .has_target = true, .target = body->desired_state };
        ret->success = 204;
        return 0;
}

/* What one PUT, or one item of a batch, comes to: 0, or the status to answer with the message in 'err'. */
static unsigned wish_read(Request *request, const char *name, const ApiUnit *body, Wish *ret, Error *err) {
        const ClusterUnit *known = cluster_unit(registry_cluster(request->api->options.registry), name);
        unsigned status;

        if (unit_name_check(name, err) < 0)
                return 400;
        status = refuse_unreadable(request, name, err);
        if (status > 0)
                return status;
        status = wish_change(request, name, body, known, ret, err);
        if (status > 0)
                return status;
        return wish_expectations(body, known, &ret->change, err);
}

static bool content_type_is_json(Request *request) {
        const HttpRequest *http = request->http;
        const char *type = http->content_type ?: "";
        size_t n = strcspn(type, ";");

        while (n > 0 && (type[n - 1] == ' ' || type[n - 1] == '\t'))
                n--;

        if (http->n_content_types != 1) {
                request_error(request, 415, "expected 1 Content-Type, got %u", http->n_content_types);
                return false;
        }
        if (n != 16 || strncmp(type, "application/json", 16) != 0) {
                request_error(request, 415, "only acceptable Content-Type is application/json");
                return false;
        }
        return true;
}

void units_put_handle(Request *request) {
        const char *name = request->rest;
        _cleanup_api_unit_ ApiUnit body = API_UNIT_EMPTY;
        _cleanup_(wish_done) Wish wish = {};
        unsigned status;
        Error err = {};
        int r;

        if (!content_type_is_json(request))
                return;
        r = api_unit_read(request->http->body, request->http->body_size, &body, &err);
        if (r < 0) {
                request_error(request, request_status_of(r),
                              r == -EINVAL ? "%s" : "unable to decode body: %s", error_text(&err, r));
                return;
        }
        if (body.name && body.name[0] && !streq(body.name, name)) {
                request_error(request, 400,
                              "name in URL \"%s\" differs from unit name in request body \"%s\"", name,
                              body.name);
                return;
        }
        if (body.destroy) {
                request_error(request, 400, "destroy is for a batch: use DELETE");
                return;
        }
        status = wish_read(request, name, &body, &wish, &err);
        if (status > 0)
                request_error(request, status, "%s", err.message);
        else
                units_change(request, &wish.change, wish.success);
}

void units_delete_handle(Request *request) {
        const char *name = request->rest;
        const ClusterUnit *known = cluster_unit(registry_cluster(request->api->options.registry), name);
        _cleanup_(wish_done) Wish wish = {};
        unsigned status;
        Error err = {};

        status = refuse_unreadable(request, name, &err);
        if (status == 0)
                status = wish_removal(request, name, known, &wish, &err);
        if (status > 0)
                request_error(request, status, "%s", err.message);
        else
                units_change(request, &wish.change, wish.success);
}

/* -- Many at once -- */

typedef struct Wishes {
        Wish *items;
        UnitChange *changes;
        size_t n;
} Wishes;

static void wishes_done(Wishes *w) {
        for (size_t i = 0; i < w->n; i++)
                wish_done(&w->items[i]);
        free(w->items);
        free(w->changes);
}

/* 0, or the status to answer; the sentence begins with the unit's name. */
static unsigned wishes_read(Request *request, const ApiPage *page, Wishes *ret, Error *err) {
        ret->items = NEW0(Wish, page->n + 1);
        ret->changes = NEW0(UnitChange, page->n + 1);
        if (!ret->items || !ret->changes)
                return refuse(err, 500, "out of memory");
        for (size_t i = 0; i < page->n; i++) {
                const char *name = page->units[i].name ?: "";
                unsigned status = wish_read(request, name, &page->units[i], &ret->items[ret->n++], err);

                for (size_t k = 0; status == 0 && k < i; k++)
                        if (streq(page->units[k].name, name))
                                status = refuse(err, 400, "named twice");
                if (status > 0) {
                        (void) error_prefix(err, -EINVAL, "%s", name);
                        return status;
                }
                ret->changes[i] = ret->items[i].change;
        }
        return 0;
}

void batch_handle(Request *request) {
        _cleanup_api_page_ ApiPage page = {};
        _cleanup_(wishes_done) Wishes wishes = {};
        unsigned status;
        Error err = {};
        ChangeWork *w;
        int r;

        if (!content_type_is_json(request))
                return;
        r = api_units_read(request->http->body, request->http->body_size, BATCH_MAX, &page, &err);
        if (r == -E2BIG)
                r = error_set(&err, -EINVAL, "more than %d units in one batch", BATCH_MAX);
        if (r < 0) {
                request_error(request, request_status_of(r),
                              r == -EINVAL ? "%s" : "unable to decode body: %s", error_text(&err, r));
                return;
        }
        status = wishes_read(request, &page, &wishes, &err);
        if (status > 0) {
                request_error(request, status, "%s", err.message);
                return;
        }
        w = change_new(request, 204, NULL);
        change_sent(request, w,
                    w ? registry_change_units(request->api->options.registry, wishes.changes, wishes.n,
                                              change_on_done, w) :
                        -ENOMEM);
}

/* -- States -- */

static int by_unit_and_machine(const void *a, const void *b) {
        const ClusterState *x = *(const ClusterState *const *) a, *y = *(const ClusterState *const *) b;

        return strcmp(x->unit, y->unit) ?: strcmp(x->machine->id, y->machine->id);
}

static const ClusterState **states_sorted(const Cluster *c, const char *machine, const char *unit,
                                          size_t *ret_n) {
        const ClusterState **all = NULL;
        size_t n = 0;

        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                n += HASH_COUNT(m->states);
        all = NEW0(const ClusterState *, n + 1);
        n = 0;
        for (const ClusterMachine *m = c->machines; m && all; m = m->hh.next) {
                if (!machine_is_there(m) || (machine && machine[0] && !streq(machine, m->id)))
                        continue;
                for (const ClusterState *s = m->states; s; s = s->hh.next)
                        if (!unit || !unit[0] || streq(unit, s->unit))
                                all[n++] = s;
        }
        if (all && n > 0)
                qsort(all, n, sizeof(*all), by_unit_and_machine);
        *ret_n = n;
        return all;
}

static ApiState state_entity(const ClusterState *s) {
        return (ApiState) { .name = s->unit,
                            .machine_id = s->machine->id,
                            .hash = s->state.hash,
                            .load = s->state.load,
                            .active = s->state.active,
                            .sub = s->state.sub,
                            .since_ms = s->state.since_ms,
                            .finished = s->state.done,
                            .job = s->state.job[0] ? s->state.job : NULL };
}

void states_get_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_free_ const ClusterState **states = NULL;
        _cleanup_text_ Text t = {};
        ApiState entity;
        size_t n;

        states = states_sorted(c, NULL, request->rest, &n);
        if (!states) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (n == 0) {
                request_error(request, 404, "unit state does not exist");
                return;
        }
        entity = state_entity(states[0]);
        api_state_write(&t, &entity);
        request_answer_json(request, 200, &t);
}

void states_list_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_free_ const ClusterState **states = NULL;
        _cleanup_free_ ApiState *entities = NULL;
        _cleanup_text_ Text t = {};
        size_t total;
        Page page;

        states = states_sorted(c, request_parameter(request, "machineID"),
                               request_parameter(request, "unitName"), &total);
        if (!states) {
                request_error(request, 500, "out of memory");
                return;
        }
        if (!page_of(request, total, &page))
                return;
        entities = NEW0(ApiState, page.n + 1);
        for (size_t i = 0; entities && i < page.n; i++)
                entities[i] = state_entity(states[page.first + i]);
        if (entities)
                api_states_page_write(&t, entities, page.n, page_next(&page));
        else
                t.error = -ENOMEM;
        request_answer_json(request, 200, &t);
}

/* -- The cluster, in one answer -- */

static const ClusterMachine *machine_of(const Cluster *c, uint64_t raft_id) {
        for (const ClusterMachine *m = c->machines; m; m = m->hh.next)
                if (raft_id != 0 && m->raft_id == raft_id)
                        return m;
        return NULL;
}

/* A host that is alone and has no door for others is in no member key: it knows itself all the same. */
static void member_write(Text *t, const Request *request, const KvState *state, const char *name,
                         const KvMember *member, uint64_t raft_id) {
        const ClusterMachine *m = machine_of(registry_cluster(request->api->options.registry), raft_id);
        bool self = raft_id == state->raft_id;

        json_open(t, name, '{');
        json_add_string(t, "address", member ? member->address : m ? m->peer : NULL);
        json_add_string(t, "id", m ? m->id : self ? request->api->machine_id : NULL);
        json_add_string(t, "name", m && m->facts ? m->facts->name : self ? request->api->name : NULL);
        if (member) {
                json_add_bool(t, "reachable", member->reachable);
                json_add_string(t, "seat", kv_member_role_name(member->seat));
        }
        json_close(t, '}');
}

/* Hosts that have not said yet what runs on them, in a new lineage. */
static void waits_for_write(Text *t, const Cluster *c) {
        _cleanup_free_ ClusterMachine **machines = NULL;
        size_t n = 0;

        machines = cluster_machines_sorted(c, &n);
        if (!machines)
                t->error = -ENOMEM;
        json_open(t, "waitsFor", '[');
        for (size_t i = 0; i < n; i++)
                if (cluster_awaits_report(c, machines[i]))
                        json_add_string_always(t, NULL, cluster_machine_name(machines[i]));
        json_close(t, ']');
}

void cluster_handle(Request *request) {
        const Cluster *c = registry_cluster(request->api->options.registry);
        _cleanup_text_ Text t = {};
        char id[24];
        KvState state;

        kv_state(request->api->options.store, &state);
        snprintf(id, sizeof(id), "%llx", (unsigned long long) state.cluster_id);
        json_open(&t, NULL, '{');
        json_add_string(&t, "clusterId", id);
        json_add_u64(&t, "floor", state.floor);
        json_add_u64(&t, "index", state.index);
        if (state.leader_id != 0)
                member_write(&t, request, &state, "leader", NULL, state.leader_id);
        json_add_u64(&t, "level", state.level);
        json_add_u64(&t, "levelKnown", state.level_max);
        json_add_string(&t, "machine", request->api->machine_id);
        json_add_string(&t, "name", request->api->name);
        json_add_string(&t, "problem", state.problem);
        json_add_u64(&t, "raftIndex", state.raft_index);
        json_add_string(&t, "role", kv_role_name(state.role));
        if (state.stale_ms > 0)
                json_add_u64(&t, "staleSec", state.stale_ms / 1000);
        json_add_u64(&t, "term", state.term);
        json_open(&t, "voters", '[');
        for (size_t i = 0; i < state.n_members; i++)
                member_write(&t, request, &state, NULL, &state.members[i], state.members[i].raft_id);
        json_close(&t, ']');
        if (c->adopting)
                waits_for_write(&t, c);
        json_close(&t, '}');
        request_answer_json(request, 200, &t);
}
