#include "client/core/report.h"

#include "client/core/files.h"
#include "client/core/listing.h"
#include "client/core/unit.h"

enum { FEW = 8 }; /* more units are read with one list */

typedef struct Report {
        Text units, states;
} Report;

static void report_done(Report *r) {
        text_done(&r->units);
        text_done(&r->states);
}

static void report_add_unit(Report *r, const ApiUnit *unit) {
        text_append(&r->units, r->units.size > 0 ? "," : "");
        api_unit_write(&r->units, unit);
}

static void report_add_states(Report *r, const Listing *states, const char *name) {
        for (size_t i = 0; i < states->n; i++) {
                if (!same_string(states->states[i].name, name))
                        continue;
                text_append(&r->states, r->states.size > 0 ? "," : "");
                api_state_write(&r->states, &states->states[i]);
        }
}

static int report_read_one(Client *c, const char *name, Report *ret, Error *err) {
        _cleanup_api_unit_ ApiUnit unit = API_UNIT_EMPTY;
        _cleanup_listing_ Listing states = {};

        if (TRY(client_unit(c, name, &unit, err)) > 0)
                report_add_unit(ret, &unit);
        TRY(client_states(c, name, &states, err));
        report_add_states(ret, &states, name);
        return 0;
}

static int report_read_all(Client *c, const Names *names, Report *ret, Error *err) {
        _cleanup_listing_ Listing units = {}, states = {};

        TRY(client_units(c, &units, err));
        TRY(client_states(c, NULL, &states, err));
        for (size_t i = 0; i < names->n; i++) {
                const ApiUnit *unit = listing_unit(&units, names->items[i]);

                if (unit)
                        report_add_unit(ret, unit);
                report_add_states(ret, &states, names->items[i]);
        }
        return 0;
}

static const char *report_result(int status) {
        switch (status) {
        case EXIT_DONE:
                return "done";
        case EXIT_ABSENT:
                return "absent";
        case EXIT_CONTINUES:
                return "continues";
        default:
                return "failed";
        }
}

/* Add the names of units, each once. */
static int report_add_names(char **args, size_t n, Names *ret) {
        _cleanup_names_ Names names = {};

        TRY(files_names(args, n, &names));
        for (size_t i = 0; i < names.n; i++)
                if (!names_have(ret, names.items[i]))
                        TRY(names_add(ret, names.items[i], strlen(names.items[i])));
        return 0;
}

static int report_read(Client *c, char **args, size_t n, Report *ret, Error *err) {
        _cleanup_names_ Names names = {};

        if (!c->connection)
                return -ENOTCONN;
        TRY(report_add_names(args, n, &names));
        if (names.n > FEW)
                return report_read_all(c, &names, ret, err);
        for (size_t i = 0; i < names.n; i++)
                TRY(report_read_one(c, names.items[i], ret, err));
        return 0;
}

static int report_print(Client *c, char **args, size_t n, int status) {
        bool failed = status < 0 || status == EXIT_FAILED;
        _cleanup_(report_done) Report report = {};
        _cleanup_text_ Text t = {};
        Error err = {};
        int r;

        r = report_read(c, args, n, &report, &err);
        text_printf(&t, "{\"result\":\"%s\"", report_result(status));
        if (r >= 0)
                text_printf(&t, ",\"states\":[%s],\"units\":[%s]", report.states.chars ?: "",
                            report.units.chars ?: "");
        text_append(&t, "}");
        t.error = MIN(t.error, MIN(report.units.error, report.states.error));
        if (r == -ENOMEM || t.error < 0)
                return status < 0 ? status : client_fail(-ENOMEM, NULL);
        if (r < 0 && !failed) /* otherwise the verb has printed why */
                client_note("the units cannot be read: %s", error_text(&err, r));
        (void) output_line(t.chars);
        return status;
}

static bool report_is_wanted(const Client *c) {
        return verb_has(c->verb, "report") && *c->options.output;
}

int report_begin(const Client *c) {
        return report_is_wanted(c) ? output_discard(true) : 0;
}

int report_end(Client *c, char **args, size_t n, int status) {
        int r;

        if (!report_is_wanted(c))
                return status;
        r = output_discard(false);
        if (r < 0)
                return status < 0 ? status : r;
        if (status == EXIT_USAGE)
                return status;
        return report_print(c, args, ends_with(c->verb->arguments, "...") ? n : MIN(n, (size_t) 1), status);
}
