#include "client/overview.h"

#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "client/events.h"
#include "client/output.h"

enum { PROBLEMS_SHOWN = 20, WHAT_MAX = 60 /* columns: what is longer moves nobody's next step */ };

/* Everything that the screen is made from. */
typedef struct View {
        Listing machines, units, states;
        JsonValue *cluster;
} View;

static void view_done(View *v) {
        listing_done(&v->machines);
        listing_done(&v->units);
        listing_done(&v->states);
        json_value_free(v->cluster);
}

static int view_read(Client *c, View *v, Error *err) {
        _cleanup_reply_ Reply reply = {};
        int r;

        r = connection_request(c->connection, "GET", "/fleet/v1/cluster", NULL, NULL, &reply, err);
        if (r >= 0)
                r = reply_check(&reply, err);
        if (r >= 0)
                r = json_value_parse(reply.body.chars, reply.body.size, &v->cluster, err);
        if (r >= 0)
                r = client_machines(c, &v->machines, err);
        if (r >= 0)
                r = client_units(c, &v->units, err);
        if (r >= 0)
                r = client_states(c, NULL, &v->states, err);
        return r;
}

static const char *text_of(const JsonValue *object, const char *name) {
        const char *s = NULL;

        return json_read_string(object, name, &s, NULL) < 0 || !s ? "" : s;
}

static uint64_t number_of(const JsonValue *object, const char *name) {
        uint64_t n = 0;

        return json_read_u64(object, name, &n, NULL) < 0 ? 0 : n;
}

/* Three cells: whose it is, what is wrong, and what to type. */
static int add_problem(Names *t, const char *name, const char *what, const char *verb) {
        const char *const cells[] = { name, what, verb };
        int r = 0;

        for (size_t i = 0; i < ELEMENTS(cells) && r >= 0; i++) {
                _cleanup_text_ Text safe = {};

                text_append_printable(&safe, cells[i]);
                r = safe.error < 0 ? safe.error : names_add(t, safe.chars ?: "", safe.size);
        }
        return r;
}

/* A reason is never cut: on a narrow terminal it goes on in the next line. */
static void print_problems(const Names *t) {
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

/* " 4 min ago", in one unit of time. */
static void append_age(Text *t, uint64_t since_ms) {
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

static int failed_units(const View *v, Names *t, size_t *n) {
        for (size_t i = 0; i < v->states.n; i++) {
                const ApiState *s = &v->states.states[i];
                _cleanup_text_ Text what = {};
                int r;

                if (!s->name || !s->active || !streq(s->active, "failed") || (*n)++ >= PROBLEMS_SHOWN)
                        continue;
                text_append(&what, "failed on ");
                append_machine_name(&what, &v->machines, s->machine_id ? s->machine_id : "");
                append_age(&what, s->since_ms);
                r = what.error < 0 ? what.error : add_problem(t, s->name, what.chars, "journal");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int missing_units(const View *v, Names *t, size_t *n) {
        for (size_t i = 0; i < v->units.n; i++) {
                const ApiUnit *u = &v->units.units[i];
                _cleanup_text_ Text what = {};
                int r;

                bool placed = u->machine_id && *u->machine_id;

                if (!u->name || u->desired_state <= TARGET_INACTIVE || u->current_state > TARGET_INACTIVE ||
                    u->global || (*n)++ >= PROBLEMS_SHOWN)
                        continue;
                text_printf(&what, "%s%s", placed ? "" : "not placed: ",
                            u->reason && *u->reason ? u->reason :
                            placed                  ? "its machine does not report it" :
                                                      "no machine yet");
                r = what.error < 0 ? what.error : add_problem(t, u->name, what.chars, "why");
                if (r < 0)
                        return r;
        }
        return 0;
}

static int silent_machines(const View *v, Names *t, size_t *n) {
        for (size_t i = 0; i < v->machines.n; i++) {
                const ApiMachine *m = &v->machines.machines[i];
                _cleanup_text_ Text what = {};
                int r;

                if (!m->presence || streq(m->presence, "up") || !m->id || (*n)++ >= PROBLEMS_SHOWN)
                        continue;
                text_printf(&what, "machine is %s", m->presence);
                r = what.error < 0 ?
                            what.error :
                            add_problem(t, m->hostname && *m->hostname ? m->hostname : m->id, what.chars, "");
                if (r < 0)
                        return r;
        }
        return 0;
}

static bool is_voter(const JsonValue *member, bool *ret_reachable) {
        const char *seat = text_of(member, "seat");

        *ret_reachable = false;
        (void) json_read_bool(member, "reachable", ret_reachable, NULL);
        return !*seat || streq(seat, "voter");
}

static int silent_voters(const View *v, Names *t, size_t *n) {
        const JsonValue *voters = json_value_member(v->cluster, "voters");

        for (size_t i = 0; i < json_value_count(voters); i++) {
                const JsonValue *one = json_value_item(voters, i);
                const char *name = text_of(one, "name");
                bool reachable;
                int r;

                if (!is_voter(one, &reachable) || reachable || (*n)++ >= PROBLEMS_SHOWN)
                        continue;
                r = add_problem(t, *name ? name : text_of(one, "id"), "is a voter and does not answer", "");
                if (r < 0)
                        return r;
        }
        return 0;
}

static void print_voters(const View *v) {
        const JsonValue *voters = json_value_member(v->cluster, "voters");
        size_t n = 0, reachable = 0;

        printf("  voters  ");
        for (size_t i = 0; i < json_value_count(voters); i++) {
                const JsonValue *one = json_value_item(voters, i);
                const char *name = text_of(one, "name");
                bool there;

                if (!is_voter(one, &there))
                        continue;
                n++;
                reachable += there;
                printf(" %s%s", *name ? name : text_of(one, "id"), there ? "" : " (silent)");
        }
        /* What may still go is what is there above a majority. */
        printf("        can lose %zu\n", n > 0 && reachable > n / 2 ? reachable - n / 2 - 1 : 0);
}

static int print_all(const View *v, size_t *ret_problems) {
        const JsonValue *leader = json_value_member(v->cluster, "leader");
        const char *problem = text_of(v->cluster, "problem"), *on = "", *off = "";
        _cleanup_names_ Names problems = {};
        size_t n = 0;
        int r = 0;

        if (*problem) {
                n++;
                r = add_problem(&problems, "cluster", problem, "");
        }
        if (r >= 0 && json_value_member(v->cluster, "waitsFor")) {
                n++;
                r = add_problem(&problems, "cluster",
                                "nothing is started or moved until all hosts have said what runs there "
                                "(fleetctl cluster)",
                                "");
        }
        if (r >= 0)
                r = silent_voters(v, &problems, &n);
        if (r >= 0)
                r = silent_machines(v, &problems, &n);
        if (r >= 0)
                r = failed_units(v, &problems, &n);
        if (r >= 0)
                r = missing_units(v, &problems, &n);
        if (r < 0)
                return r;

        if (output_has_colours()) {
                on = output_state_colour(n > 0 ? "failed" : "active");
                off = COLOUR_OFF;
        }
        (void) output_control(on);
        printf("●");
        (void) output_control(off);
        printf(" fleet  %zu machine%s, %zu unit%s, index %llu, ", v->machines.n,
               v->machines.n == 1 ? "" : "s", v->units.n, v->units.n == 1 ? "" : "s",
               (unsigned long long) number_of(v->cluster, "index"));
        if (leader)
                printf("leader %s (term %llu)\n",
                       *text_of(leader, "name") ? text_of(leader, "name") : text_of(leader, "id"),
                       (unsigned long long) number_of(v->cluster, "term"));
        else
                puts("no leader");
        if (n > 0)
                printf("  %zu problem%s\n", n, n == 1 ? "" : "s");
        (void) fflush(stdout);
        if (n > 0)
                print_problems(&problems);
        if (n > PROBLEMS_SHOWN)
                printf("    ... and %zu more\n", n - PROBLEMS_SHOWN);
        print_voters(v);
        *ret_problems = n;
        return r;
}

int overview(Client *c) {
        _cleanup_(view_done) View v = {};
        _cleanup_text_ Text recent = {};
        size_t problems = 0;
        Error err = {};
        int r;

        r = view_read(c, &v, &err);
        if (r >= 0)
                r = print_all(&v, &problems);
        if (r >= 0)
                events_recent(c, &v.machines, &recent);
        if (recent.size > 0)
                printf("  recent   %s\n", recent.chars);
        if (r < 0)
                return client_fail(r, &err, "Error retrieving the state of the cluster: ");
        return problems > 0 ? EXIT_FAILED : EXIT_DONE;
}
