#include "client/client.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include "units/options.h"

enum {
        BATCH_UNITS = 200,
        BATCH_BYTES = 100 * 1024
}; /* of one transaction, which has to fit one entry of the log */

bool client_talks_to_people(void) {
        return isatty(STDOUT_FILENO) && isatty(STDERR_FILENO);
}

/* Without the words that only scripts know: what the daemon says of itself (5xx) needs nothing before it. */
static bool say_plainly(const char *message, const char *before) {
        static const char mark[] = "googleapi: Error ";
        const char *at = strstr(message, mark), *rest = at ? strstr(at, ": ") : NULL;

        rest = rest ? strstr(rest + 2, ": ") : NULL;
        if (!rest || !rest[2])
                return false;
        if (at[sizeof(mark) - 1] == '5')
                fprintf(stderr, "fleetctl: %s\n", rest + 2);
        else
                fprintf(stderr, "%s%.*s%s\n", before, (int) (at - message), message, rest + 2);
        return true;
}

int client_fail(int r, const Error *err, const char *format, ...) {
        _cleanup_text_ Text t = {};
        va_list ap;

        if (r == -EREMOTEIO || r == -ENOENT || r == -EINVAL) {
                va_start(ap, format);
                text_vprintf(&t, format, ap);
                va_end(ap);
        }
        if (r == -EREMOTEIO && client_talks_to_people() && say_plainly(error_text(err, r), t.chars ?: ""))
                return EXIT_FAILED;
        fprintf(stderr, "%s%s\n", t.chars ? t.chars : "fleetctl: ", error_text(err, r));
        return EXIT_FAILED;
}

void client_note(const char *format, ...) {
        _cleanup_text_ Text t = {};
        va_list ap;

        va_start(ap, format);
        text_vprintf(&t, format, ap);
        va_end(ap);
        fprintf(stderr, "fleetctl: %s\n", t.chars ? text_keep_to_one_line(t.chars) : "out of memory");
}

void listing_done(Listing *l) {
        for (size_t i = 0; i < l->n_pages; i++)
                api_page_done(&l->pages[i]);
        free(l->pages);
        free(l->units);
        free(l->states);
        free(l->machines);
        *l = (Listing) {};
}

/* Copies the items of all pages into one array. */
static void *join(const Listing *l, size_t size, const void *(*items)(const ApiPage *page)) {
        char *all = calloc(l->n + 1, size);
        size_t at = 0;

        for (size_t i = 0; all && i < l->n_pages; i++)
                if (l->pages[i].n > 0) {
                        memcpy(all + at * size, items(&l->pages[i]), l->pages[i].n * size);
                        at += l->pages[i].n;
                }
        return all;
}

/* 'items' were joined from all of its pages; NULL: no memory. */
static int listing_take(Listing *l, const void *items, Listing *ret) {
        if (!items)
                return -ENOMEM;
        *ret = *l;
        *l = (Listing) {};
        return 0;
}

static const void *page_units(const ApiPage *page) {
        return page->units;
}
static const void *page_states(const ApiPage *page) {
        return page->states;
}
static const void *page_machines(const ApiPage *page) {
        return page->machines;
}

/* Reads page after page; a server that never ends is left after so many. */
enum { PAGES_MAX = 100000 };

static int listing_read(Client *c, const char *path, int (*read)(const char *, size_t, ApiPage *, Error *),
                        Listing *l, Error *err) {
        bool more = true;

        while (more) {
                _cleanup_reply_ Reply reply = {};
                _cleanup_text_ Text t = {};
                int r;

                text_append(&t, path);
                if (l->n_pages > 0) {
                        text_append(&t, strchr(path, '?') ? "&nextPageToken=" : "?nextPageToken=");
                        append_escaped(&t, l->pages[l->n_pages - 1].next_token, false);
                }
                if (t.error < 0 || GROW(l->pages, l->capacity, l->n_pages + 1) < 0)
                        return -ENOMEM;
                r = connection_request(c->connection, "GET", t.chars, NULL, NULL, &reply, err);
                if (r >= 0)
                        r = reply_check(&reply, err);
                if (r < 0)
                        return r;

                l->pages[l->n_pages] = (ApiPage) {};
                r = read(reply.body.chars, reply.body.size, &l->pages[l->n_pages], err);
                if (r < 0)
                        return error_prefix(err, r, "fleetd's answer to %s", path);
                l->n += l->pages[l->n_pages].n;
                more = l->pages[l->n_pages++].next_token != NULL;
                if (l->n_pages > PAGES_MAX)
                        return error_set(err, -EBADMSG, "fleetd's answer to %s does not end", path);
        }
        return 0;
}

/* Of a daemon that does not say which unit is global, as fleet's: from the options, as its clients did. One
 * that sends hashes says it. */
static int note_global(ApiUnit *unit) {
        _cleanup_placement_ Placement placement = {};
        int r = unit->global || unit->hash || !unit->file ?
                        0 :
                        options_read(unit->file, unit->name, &placement, NULL, NULL);

        unit->global = unit->global || placement.global;
        return r == -ENOMEM ? r : 0;
}

int client_units(Client *c, Listing *ret, Error *err) {
        _cleanup_listing_ Listing l = {};
        int r;

        r = listing_read(c, "/fleet/v1/units", api_units_page_read, &l, err);
        if (r < 0)
                return r;
        l.units = join(&l, sizeof(ApiUnit), page_units);
        for (size_t i = 0; l.units && i < l.n; i++) {
                r = note_global(&l.units[i]);
                if (r < 0)
                        return r;
        }
        return listing_take(&l, l.units, ret);
}

int client_states(Client *c, const char *unit, Listing *ret, Error *err) {
        _cleanup_listing_ Listing l = {};
        _cleanup_text_ Text path = {};
        int r;

        text_append(&path, "/fleet/v1/state");
        if (unit) {
                text_append(&path, "?unitName=");
                append_escaped(&path, unit, false);
        }
        if (path.error < 0)
                return path.error;
        r = listing_read(c, path.chars, api_states_page_read, &l, err);
        if (r < 0)
                return r;
        l.states = join(&l, sizeof(ApiState), page_states);
        return listing_take(&l, l.states, ret);
}

static int read_machines(Client *c, const char *path, Listing *ret, Error *err) {
        _cleanup_listing_ Listing l = {};
        int r;

        r = listing_read(c, path, api_machines_page_read, &l, err);
        if (r < 0)
                return r;
        l.machines = join(&l, sizeof(ApiMachine), page_machines);
        return listing_take(&l, l.machines, ret);
}

int client_machines(Client *c, Listing *ret, Error *err) {
        return read_machines(c, "/fleet/v1/machines", ret, err);
}

int client_all_machines(Client *c, Listing *ret, Error *err) {
        return read_machines(c, "/fleet/v1/machines?all=true", ret, err);
}

const ApiMachine *listing_machine(const Listing *machines, const char *id) {
        for (size_t i = 0; id && i < machines->n; i++)
                if (machines->machines[i].id && streq(machines->machines[i].id, id))
                        return &machines->machines[i];
        return NULL;
}

/* A request about one unit; 404 is not an error here: ask the reply. */
static int unit_request(Client *c, const char *method, const char *name, const char *body, Reply *ret,
                        Error *err) {
        _cleanup_text_ Text path = {};
        int r;

        text_append(&path, "/fleet/v1/units/");
        append_escaped(&path, name, false);
        if (path.error < 0)
                return path.error;
        r = connection_request(c->connection, method, path.chars, "application/json", body, ret, err);
        if (r < 0 || ret->status == 404)
                return r;
        return reply_check(ret, err);
}

int client_unit(Client *c, const char *name, ApiUnit *ret, Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = unit_request(c, "GET", name, NULL, &reply, err);
        if (r < 0)
                return r;
        if (reply.status == 404)
                return 0;
        r = api_unit_read_answer(reply.body.chars, reply.body.size, ret, err);
        if (r < 0)
                return error_prefix(err, r, "fleetd's answer about %s", name);
        r = note_global(ret);
        return r < 0 ? r : 1;
}

static int put_unit(Client *c, const ApiUnit *unit, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        int r;

        api_unit_write(&body, unit);
        if (body.error < 0)
                return body.error;
        r = unit_request(c, "PUT", unit->name, body.chars, &reply, err);
        return r < 0 ? r : reply_check(&reply, err);
}

/* One transaction. 0 with *ret_known false: this fleetd has no batches. */
static int post_batch(Client *c, const ApiUnit *units, size_t n, bool *ret_known, Error *err) {
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text body = {};
        int r;

        api_units_page_write(&body, units, n, NULL);
        if (body.error < 0)
                return body.error;
        r = connection_request(c->connection, "POST", "/fleet/v1/batch", "application/json", body.chars,
                               &reply, err);
        if (r < 0)
                return r;
        *ret_known = reply.status != 404 && reply.status != 405;
        return *ret_known ? reply_check(&reply, err) : 0;
}

int client_change(Client *c, const ApiUnit *units, size_t n, Error *err) {
        bool batches = n > 1;
        int r = 0;

        for (size_t i = 0, end; i < n && r >= 0; i = end) {
                size_t size = 0;

                for (end = i; end < n && end - i < BATCH_UNITS && size < BATCH_BYTES; end++)
                        size += units[end].text ? strlen(units[end].text) : 0;
                if (batches)
                        r = post_batch(c, units + i, end - i, &batches, err);
                if (!batches)
                        for (end = i; end < n && r >= 0; end++)
                                r = put_unit(c, &units[end], err);
        }
        return r;
}

int client_set_state(Client *c, const char *name, TargetState state, Error *err) {
        ApiUnit unit = API_UNIT_EMPTY;

        unit.name = name;
        unit.desired_state = state;
        return client_change(c, &unit, 1, err);
}

bool client_may_retry(int r, const Error *err) {
        return r < 0 && r != -ENOMEM && r != -EFBIG && r != -E2BIG &&
               (r != -EREMOTEIO || starts_with(err->message, "googleapi: Error 5"));
}

static int destroy_one(Client *c, const char *name, Error *err) {
        _cleanup_reply_ Reply reply = {};

        return unit_request(c, "DELETE", name, NULL, &reply, err); /* also 0 if it is gone already */
}

/* One transaction. False: nothing has changed, or it is not known. */
static bool destroy_batch(Client *c, char *const *names, size_t n) {
        _cleanup_free_ ApiUnit *units = NEW0(ApiUnit, n);
        bool known = true;
        Error err = {};

        for (size_t i = 0; units && i < n; i++) {
                units[i] = API_UNIT_EMPTY;
                units[i].name = names[i];
                units[i].destroy = true;
        }
        return units && post_batch(c, units, n, &known, &err) >= 0 && known;
}

int client_destroy_all(Client *c, const Names *names,
                       int (*done)(void *userdata, const char *name, int r, const Error *err),
                       void *userdata) {
        for (size_t i = 0, end; i < names->n; i = end) {
                bool all;

                end = MIN(names->n, i + BATCH_UNITS);
                all = end - i > 1 && destroy_batch(c, names->items + i, end - i);
                for (size_t k = i; k < end; k++) {
                        Error err = {};
                        /* What a batch was rejected for (one of its units, or a daemon that knows none) is
                         * found one by one. */
                        int r = all ? 0 : destroy_one(c, names->items[k], &err);

                        r = done(userdata, names->items[k], r, &err);
                        if (r < 0)
                                return r;
                }
        }
        return 0;
}

void append_legend(Text *t, const Listing *machines, const char *id, bool full) {
        const ApiMachine *machine = listing_machine(machines, id);

        if (full)
                text_append(t, id);
        else
                text_printf(t, "%.8s...", id ?: "");
        if (machine && machine->primary_ip && *machine->primary_ip)
                text_printf(t, "/%s", machine->primary_ip);
}

void append_machine_name(Text *t, const Listing *machines, const char *id) {
        const ApiMachine *machine = listing_machine(machines, id);

        if (machine && machine->hostname && *machine->hostname)
                text_append(t, machine->hostname);
        else
                text_printf(t, "%.8s", id ?: "");
}

bool stdout_is_terminal(void) {
        return isatty(STDOUT_FILENO);
}

bool client_says_yes(void) {
        char answer[16];

        return fgets(answer, sizeof(answer), stdin) && (answer[0] == 'y' || answer[0] == 'Y');
}
