#include "client/report.h"

#include "client/files.h"
#include "client/output.h"

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
        int r;

        r = client_unit(c, name, &unit, err);
        if (r > 0)
                report_add_unit(ret, &unit);
        if (r >= 0)
                r = client_states(c, name, &states, err);
        if (r >= 0)
                report_add_states(ret, &states, name);
        return r;
}

static int report_read_all(Client *c, const Names *names, Report *ret, Error *err) {
        _cleanup_listing_ Listing units = {}, states = {};
        int r;

        r = client_units(c, &units, err);
        if (r >= 0)
                r = client_states(c, NULL, &states, err);
        for (size_t i = 0; r >= 0 && i < names->n; i++) {
                const ApiUnit *unit = listing_unit(&units, names->items[i]);

                if (unit)
                        report_add_unit(ret, unit);
                report_add_states(ret, &states, names->items[i]);
        }
        return r;
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

/* Print the result, and the units that the arguments name as they are now. Return 'status', or EXIT_FAILED if
 * a unit cannot be read. */
static int report_print(Client *c, char **args, size_t n, int status) {
        _cleanup_(report_done) Report report = {};
        _cleanup_names_ Names names = {};
        _cleanup_text_ Text t = {};
        Error err = {};
        int r;

        r = files_names(args, n, &names);
        if (r >= 0 && names.n > FEW)
                r = report_read_all(c, &names, &report, &err);
        for (size_t i = 0; r >= 0 && names.n <= FEW && i < names.n; i++)
                r = report_read_one(c, names.items[i], &report, &err);
        if (r < 0)
                return client_fail(r, &err) ? EXIT_FAILED : status;
        text_printf(&t, "{\"result\":\"%s\",\"states\":[%s],\"units\":[%s]}", report_result(status),
                    report.states.chars ?: "", report.units.chars ?: "");
        if (MIN(t.error, MIN(report.units.error, report.states.error)) < 0)
                return client_fail(-ENOMEM, NULL);
        (void) output_line(t.chars);
        return status;
}

int report_run(Client *c, char **args, size_t n, Error *err) {
        const Verb *v = c->verb;
        int r, status;

        if (!(v->groups & FLAGS_REPORT) || !*c->options.output)
                return v->run(c, args, n, err);
        r = output_discard(v->run != verb_edit); /* its editor needs the terminal first */
        if (r < 0)
                return r;
        status = v->run(c, args, n, err);
        r = output_discard(false);
        if (status < 0 || status == EXIT_USAGE || r < 0)
                return status < 0 ? status : MIN(r, 0) ?: status;
        return report_print(c, args, v->run == verb_revert ? MIN(n, (size_t) 1) : n, status);
}
