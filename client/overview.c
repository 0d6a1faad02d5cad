/* status without arguments: the whole cluster on one screen. */
#include "base/clock.h"
#include "client/client.h"

enum {
        PROBLEMS_SHOWN = 20,
        WHAT_MAX = 60, /* columns; longer descriptions are not aligned with others */
};

/* The state of the cluster, as read by several requests. */
typedef struct View {
        Listing machines, units, states;
        JsonValue *cluster;
} View;

/* The problems as rows of three cells: object, description, verb for the next step. */
typedef struct Problems {
        Names cells;
        size_t n; /* also those beyond PROBLEMS_SHOWN */
        int error;
} Problems;

static void view_done(View *v) {
        listing_done(&v->machines);
        listing_done(&v->units);
        listing_done(&v->states);
        json_value_free(v->cluster);
}

static int view_read(Client *c, View *v, Error *err) {
        int r;

        r = client_get_json(c, "/fleet/v1/cluster", &v->cluster, err);
        if (r < 0)
                return r;
        r = client_machines(c, &v->machines, err);
        if (r < 0)
                return r;
        r = client_units(c, &v->units, err);
        if (r < 0)
                return r;
        return client_states(c, NULL, &v->states, err);
}

static void problems_done(Problems *p) {
        names_done(&p->cells);
}

static void problems_add(Problems *p, const char *name, const char *verb, const char *what, ...)
        _printf_(4, 5);
static void problems_add(Problems *p, const char *name, const char *verb, const char *what, ...) {
        const char *cells[] = { name, "", verb };
        _cleanup_text_ Text t = {};
        va_list ap;

        if (p->n++ >= PROBLEMS_SHOWN)
                return;
        va_start(ap, what);
        text_vprintf(&t, what, ap);
        va_end(ap);
        cells[1] = t.chars ?: "";
        p->error = p->error ?: t.error;
        for (size_t i = 0; i < ELEMENTS(cells); i++) {
                _cleanup_text_ Text safe = {};

                text_append_printable(&safe, cells[i]);
                if (safe.error < 0 || names_add(&p->cells, safe.chars ?: "", safe.size) < 0)
                        p->error = -ENOMEM;
        }
}

/* Print the problems. Descriptions are not cut: a narrow terminal wraps them. */
static void problems_print(const Problems *p) {
        const Names *t = &p->cells;
        size_t width = 0, what_width = 0;

        for (size_t i = 0; i + 2 < t->n; i += 3) {
                size_t n = output_width(t->items[i + 1]);

                width = MAX(width, output_width(t->items[i]));
                if (n <= WHAT_MAX && *t->items[i + 2])
                        what_width = MAX(what_width, n);
        }
        for (size_t i = 0; i + 2 < t->n; i += 3) {
                const char *name = t->items[i], *what = t->items[i + 1], *verb = t->items[i + 2];

                printf("    %s%*s  %s", name, (int) (width - output_width(name)), "", what);
                if (*verb)
                        printf("%*s    fleetctl %s %s",
                               (int) (what_width - MIN(what_width, output_width(what))), "", verb, name);
                putchar('\n');
        }
}

void append_age(Text *t, uint64_t since_ms) {
        static const struct {
                uint64_t ms;
                const char *name;
        } spans[] = { { 86400000, "d" }, { 3600000, "h" }, { 60000, "min" }, { 1000, "s" } };
        uint64_t now_ms = clock_real_ms(), age_ms = now_ms > since_ms ? now_ms - since_ms : 0;

        if (since_ms == 0)
                return;
        for (size_t i = 0; i < ELEMENTS(spans); i++)
                if (age_ms >= spans[i].ms) {
                        text_printf(t, " %llu %s ago", (unsigned long long) (age_ms / spans[i].ms),
                                    spans[i].name);
                        return;
                }
        text_append(t, " just now");
}

static void add_failed_units(const View *v, Problems *p) {
        for (size_t i = 0; i < v->states.n; i++) {
                const ApiState *s = &v->states.states[i];
                _cleanup_text_ Text place = {};

                if (!s->name || !s->active || !streq(s->active, "failed"))
                        continue;
                append_machine_name(&place, &v->machines, s->machine_id ?: "");
                append_age(&place, s->since_ms);
                p->error = p->error ?: place.error;
                problems_add(p, s->name, "journal", "failed on %s", place.chars ?: "");
        }
}

static void add_missing_units(const View *v, Problems *p) {
        for (size_t i = 0; i < v->units.n; i++) {
                const ApiUnit *u = &v->units.units[i];
                bool placed = u->machine_id && *u->machine_id;
                const char *reason = placed ? "its machine does not report it" : "no machine yet";

                if (!u->name || u->desired_state <= TARGET_INACTIVE || u->current_state > TARGET_INACTIVE ||
                    u->global)
                        continue;
                if (u->reason && *u->reason)
                        reason = u->reason;
                problems_add(p, u->name, "why", "%s%s", placed ? "" : "not placed: ", reason);
        }
}

static void add_missing_machines(const View *v, Problems *p) {
        for (size_t i = 0; i < v->machines.n; i++) {
                const ApiMachine *m = &v->machines.machines[i];

                if (!m->presence || streq(m->presence, "up") || !m->id)
                        continue;
                problems_add(p, m->hostname && *m->hostname ? m->hostname : m->id, "", "machine is %s",
                             m->presence);
        }
}

static bool is_voter(const JsonValue *member) {
        const char *role = member_text(member, "seat");

        return !*role || streq(role, "voter");
}

static void add_unreachable_voters(const View *v, Problems *p) {
        const JsonValue *members = json_value_member(v->cluster, "voters");

        for (size_t i = 0; i < json_value_count(members); i++) {
                const JsonValue *m = json_value_item(members, i);

                if (is_voter(m) && !member_bool(m, "reachable"))
                        problems_add(p, member_name(m, "name"), "", "voter is unreachable");
        }
}

static void print_voters(const View *v) {
        const JsonValue *members = json_value_member(v->cluster, "voters");
        size_t n = 0, n_reachable = 0;

        printf("  voters  ");
        for (size_t i = 0; i < json_value_count(members); i++) {
                const JsonValue *m = json_value_item(members, i);
                bool reachable = member_bool(m, "reachable");

                if (!is_voter(m))
                        continue;
                n++;
                n_reachable += reachable;
                printf(" %s%s", member_name(m, "name"), reachable ? "" : " (unreachable)");
        }
        /* The cluster can lose the reachable voters beyond a majority. */
        printf("        can lose %zu\n", n > 0 && n_reachable > n / 2 ? n_reachable - n / 2 - 1 : 0);
}

static void print_summary(const View *v, size_t n_problems) {
        const JsonValue *leader = json_value_member(v->cluster, "leader");

        if (output_has_colours()) {
                (void) output_control(output_state_colour(n_problems > 0 ? "failed" : "active"));
                printf("●");
                (void) output_control(COLOUR_OFF);
        } else
                printf("●");
        printf(" fleet  %zu machine%s, %zu unit%s, index %llu, ", v->machines.n,
               v->machines.n == 1 ? "" : "s", v->units.n, v->units.n == 1 ? "" : "s",
               (unsigned long long) member_number(v->cluster, "index"));
        if (leader)
                printf("leader %s (term %llu)\n", member_name(leader, "name"),
                       (unsigned long long) member_number(v->cluster, "term"));
        else
                puts("no leader");
        if (n_problems > 0)
                printf("  %zu problem%s\n", n_problems, n_problems == 1 ? "" : "s");
        (void) fflush(stdout);
}

int overview(Client *c, Error *err) {
        _cleanup_(problems_done) Problems problems = {};
        _cleanup_(view_done) View v = {};
        _cleanup_text_ Text recent = {};
        int r;

        r = view_read(c, &v, err);
        if (r < 0)
                return client_fail_after(r, err, "Failed to read the state of the cluster: ");

        if (*member_text(v.cluster, "problem"))
                problems_add(&problems, "cluster", "", "%s", member_text(v.cluster, "problem"));
        if (json_value_member(v.cluster, "waitsFor"))
                problems_add(
                        &problems, "cluster", "",
                        "no unit is started or moved until all hosts have reported their units (fleetctl "
                        "cluster)");
        add_unreachable_voters(&v, &problems);
        add_missing_machines(&v, &problems);
        add_failed_units(&v, &problems);
        add_missing_units(&v, &problems);
        if (problems.error < 0)
                return problems.error;

        print_summary(&v, problems.n);
        problems_print(&problems);
        if (problems.n > PROBLEMS_SHOWN)
                printf("    ... and %zu more\n", problems.n - PROBLEMS_SHOWN);
        print_voters(&v);
        events_append_recent(c, &v.machines, &recent);
        if (recent.size > 0)
                printf("  recent   %s\n", recent.chars);
        return problems.n > 0 ? EXIT_FAILED : EXIT_DONE;
}
