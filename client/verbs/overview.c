/* status without arguments: the whole cluster on one screen, or as one JSON object. */
#include "client/verbs/overview.h"

#include <time.h>

#include "base/clock.h"
#include "client/core/machines.h"
#include "client/core/times.h"
#include "client/verbs/events.h"

enum {
        PAGES_MAX = 10000,
        PROBLEMS_SHOWN = 20,
        WHAT_WIDTH = 60, /* columns in a pipe; longer descriptions are not aligned with others */
        WHAT_MIN = 28,   /* columns on a terminal: with less space, the next command is left out */
        REVERTED_SHOWN = 3,
        LABEL_WIDTH = 11, /* columns before the text of a line below the problems */
};

void view_done(View *v) {
        listing_done(&v->machines);
        reply_done(&v->answer);
        json_value_free(v->cluster);
        for (size_t i = 0; i < v->n_pages; i++)
                json_value_free(v->pages[i]);
        free(v->pages);
        free(v->problems);
        for (size_t i = 0; i < v->n_history; i++)
                json_value_free(v->history[i]);
        free(v->history);
}

bool member_is_voter(const JsonValue *member) {
        const char *role = member_role(member);

        return !*role || streq(role, "voter");
}

bool cluster_awaits(const JsonValue *cluster, const Listing *machines, const ApiMachine *m) {
        _cleanup_text_ Text name = {};

        if (same_string(m->id, member_text(cluster, "machine"))) /* about to report */
                return false;
        append_machine_name(&name, machines, m->id);
        return json_list_has(json_value_member(cluster, "waitsFor"), name.chars ?: "");
}

int view_read_history(Client *c, View *v, const char *unit, uint64_t span_ms, unsigned max, Error *err) {
        uint64_t now_ms = clock_real_ms();
        _cleanup_reply_ Reply reply = {};
        _cleanup_text_ Text path = {};
        int r;

        text_printf(&path, "/fleet/v1/history?since=%llu&last=%u",
                    (unsigned long long) (now_ms > span_ms ? now_ms - span_ms : 0), max);
        if (unit) {
                text_append(&path, "&unit=");
                append_escaped(&path, unit, false);
        }
        r = connection_request(c->connection, "GET", client_path(&path), NULL, NULL, &reply, err);
        if (r < 0 || reply.status != 200)
                return r;
        for (const char *line = reply.body.chars, *end; *line; line = *end ? end + 1 : end) {
                end = line + strcspn(line, "\n");
                if (end == line)
                        continue;
                TRY(GROW(v->history, v->history_capacity, v->n_history + 1));
                TRY_PREFIX(json_value_parse(line, (size_t) (end - line), &v->history[v->n_history], err), err,
                           "fleetd's answer to %s", path.chars);
                v->n_history++;
        }
        return 0;
}

/* Read a page of the problems; *token is that of the next one, or NULL. */
static int view_read_page(Client *c, View *v, const char **token, Error *err) {
        time_t now = (time_t) (clock_real_ms() / 1000);
        _cleanup_text_ Text path = {};
        struct tm local = {};
        int r;

        (void) localtime_r(&now, &local);
        text_append(&path, "/fleet/v1/problems");
        if (local.tm_gmtoff != 0)
                text_printf(&path, "?zone=%ld", local.tm_gmtoff);
        if (*token) {
                text_append(&path, local.tm_gmtoff != 0 ? "&nextPageToken=" : "?nextPageToken=");
                append_escaped(&path, *token, false);
        }
        TRY(GROW(v->pages, v->pages_capacity, v->n_pages + 1));
        v->pages[v->n_pages] = NULL;
        r = client_refresh_json(c, client_path(&path), &v->pages[v->n_pages++], err);
        if (r == 0)
                return error_set(err, -EOPNOTSUPP,
                                 "the fleetd of this host is older: it does not list problems");
        JSON_EACH(problem, r < 0 ? NULL : json_value_member(v->pages[v->n_pages - 1], "problems")) {
                TRY(GROW(v->problems, v->problems_capacity, v->n_problems + 1));
                v->problems[v->n_problems++] = problem;
        }
        *token = r < 0 ? NULL :
                         json_value_string(json_value_member(v->pages[v->n_pages - 1], "nextPageToken"));
        return *token && v->n_pages > PAGES_MAX ? error_set(err, -EBADMSG, "%s has no end", path.chars) : r;
}

int view_read(Client *c, View *v, Error *err) {
        const char *token = NULL;

        TRY(client_request(c, "GET", "/fleet/v1/cluster", NULL, &v->answer, err));
        TRY(json_value_parse(v->answer.body.chars, v->answer.body.size, &v->cluster, err));
        do {
                TRY(view_read_page(c, v, &token, err));
        } while (token);
        return client_all_machines(c, &v->machines, err);
}

/* -- The screen -- */

/* The widths of the columns of problems. On a terminal, 'columns' is its width. */
typedef struct OverviewWidths {
        size_t columns, name, what;
} OverviewWidths;

/* Return the columns for the description of a problem: a problem with its next command fits one line. Without
 * enough space, set *ret_next to "". SIZE_MAX: no limit. */
static size_t width_of_what(const OverviewWidths *w, const char **ret_next) {
        size_t next = **ret_next ? strlen("    ") + output_width(*ret_next) : 0,
               rest = w->columns - MIN(w->columns, w->name + strlen("      "));

        if (w->columns == 0)
                return SIZE_MAX;
        if (next > 0 && rest < next + WHAT_MIN) {
                *ret_next = "";
                return rest;
        }
        return rest - next;
}

/* Return 1 if the line lacks a part of the description, or the command; 0 or -ENOMEM. */
static int problem_print(const JsonValue *p, const OverviewWidths *w) {
        const char *command = member_text(p, "command"), *next = command;
        _cleanup_text_ Text name = {}, what = {}, safe = {}, line = {};
        size_t width = width_of_what(w, &next), used;

        text_append_printable(&safe, member_text(p, "description"));
        text_append_printable(&name, member_text(p, "name"));
        output_cut(&line, name.chars ?: "", w->columns > 0 ? w->name : SIZE_MAX, true);
        output_cut(&what, safe.chars ?: "", width, false);
        used = output_width(what.chars ?: "");
        text_printf(&line, "%*s  %s", (int) (w->name - MIN(w->name, output_width(name.chars ?: ""))), "",
                    what.chars ?: "");
        if (*next) {
                size_t pad = MIN(w->what, width);

                text_printable(&line, "%*s    %s", (int) (pad - MIN(pad, used)), "", next);
        }
        if (name.error < 0 || what.error < 0 || safe.error < 0 || line.error < 0)
                return -ENOMEM;
        printf("    %s\n", line.chars ?: "");
        return (*command && !*next) || used < output_width(safe.chars ?: "");
}

static int problems_print(const View *v, bool full) {
        OverviewWidths w = { .columns = full ? 0 : output_columns() };
        size_t n = MIN(v->n_problems, (size_t) PROBLEMS_SHOWN);
        bool cut = false;

        for (size_t i = 0; i < n; i++) {
                size_t width = output_width(member_text(v->problems[i], "description"));

                w.name = MAX(w.name, output_width(member_text(v->problems[i], "name")));
                if (width <= WHAT_WIDTH && *member_text(v->problems[i], "command"))
                        w.what = MAX(w.what, width);
        }
        if (w.columns > 0)
                w.name = MIN(w.name, w.columns / 3);
        for (size_t i = 0; i < n; i++) {
                int r = TRY(problem_print(v->problems[i], &w));

                cut |= r > 0;
        }
        if (cut)
                puts("    whole lines: fleetctl status --full");
        if (v->n_problems > n)
                printf("    ... and %zu more\n", v->n_problems - n);
        return 0;
}

/* Append the value of the spread key whose hosts, lost together, stop all writes. */
static void print_critical(const View *v, Text *t) {
        const JsonValue *settings = json_value_member(v->cluster, "settings"),
                        *critical = json_value_member(settings, "critical");
        const char *value = json_value_string(critical);

        if (!value)
                return;
        text_append(t, "; loss of ");
        if (*value) {
                text_printable(t, "%s %s", member_text(settings, "spread"), value);
        } else {
                text_printable(t, "the hosts without %s", member_text(settings, "spread"));
        }
        text_append(t, " stops writes");
}

/* The same of a member of the cluster, which may be no machine. */
static void append_member_name(Text *t, const Listing *machines, const JsonValue *member) {
        const char *id = member_text(member, "id");

        if (listing_machine(machines, id))
                append_machine_name(t, machines, id);
        else
                text_append(t, member_label(member));
}

static void print_voters(const View *v) {
        size_t n = 0, n_reachable = 0;
        _cleanup_text_ Text t = {}, lose = {};

        text_append(&t, "  voters  ");
        JSON_EACH(m, json_value_member(v->cluster, "voters")) {
                bool reachable = member_bool(m, "reachable");

                if (!member_is_voter(m))
                        continue;
                n++;
                n_reachable += reachable;
                text_append(&t, " ");
                append_member_name(&t, &v->machines, m);
                text_append(&t, reachable ? "" : " (unreachable)");
        }
        /* The cluster can lose the reachable voters beyond a majority. */
        text_printf(&lose, "can lose %zu", n > 0 && n_reachable > n / 2 ? n_reachable - n / 2 - 1 : 0);
        print_critical(v, &lose);
        output_words_and(&t, "        ", &lose, LABEL_WIDTH);
}

/* Return whether the machine counts: it is up or away, and has reported to a new lineage. This host, of which
 * no presence was recorded yet, has just founded the cluster. */
static bool view_is_present(const View *v, const ApiMachine *m) {
        bool self = same_string(m->id, member_text(v->cluster, "machine"));

        return !cluster_awaits(v->cluster, &v->machines, m) &&
               (machine_is_there(m) || (self && same_string(m->presence, "lost") && m->since_ms == 0));
}

/* Return the number of machines that are up or away, of those that run units or of those with Agent=no. */
static size_t n_present(const View *v, bool agentless) {
        size_t n = 0;

        for (size_t i = 0; i < v->machines.n; i++)
                n += v->machines.machines[i].agentless == agentless &&
                     view_is_present(v, &v->machines.machines[i]);
        return n;
}

/* Return how many of these machines have no replica. Where no machine has a role, that is not known. */
static size_t n_attached(const View *v) {
        size_t n = 0, n_roles = 0;

        for (size_t i = 0; i < v->machines.n; i++) {
                const ApiMachine *m = &v->machines.machines[i];

                n_roles += m->role && *m->role;
                n += machine_is_there(m) && !m->agentless && (!m->role || !*m->role) &&
                     !cluster_awaits(v->cluster, &v->machines, m);
        }
        return n_roles > 0 ? n : 0;
}

static void print_coloured(const char *s, const char *state) {
        if (!output_has_colours()) {
                fputs(s, stdout);
                return;
        }
        (void) output_control(output_state_colour(state));
        fputs(s, stdout);
        (void) output_control(COLOUR_OFF);
}

static void print_summary(const View *v) {
        const JsonValue *leader = json_value_member(v->cluster, "leader");
        size_t n_problems = v->n_problems, n_machines = n_present(v, false), n_agentless = n_present(v, true),
               attached = n_attached(v);
        unsigned long long n_units = member_number(v->cluster, "units");
        _cleanup_text_ Text t = {}, problems = {};

        text_printf(&t, " fleet  %zu machine%s", n_machines, plural(n_machines));
        if (attached > 0)
                text_printf(&t, " (%zu attached)", attached);
        text_append(&t, ", ");
        if (n_agentless > 0)
                text_printf(&t, "%zu host%s without agent, ", n_agentless, plural(n_agentless));
        text_printf(&t, "%llu unit%s, index %llu, ", n_units, plural(n_units),
                    (unsigned long long) member_number(v->cluster, "index"));
        if (leader)
                text_printf(&t, "leader %s (term %llu)", member_name(leader, "name"),
                            (unsigned long long) member_number(v->cluster, "term"));
        else
                text_append(&t, "no leader");
        print_coloured("●", n_problems > 0 ? "failed" : "active");
        output_words(&t, strlen("● fleet  ") - strlen("●") + 1);
        if (n_problems > 0) {
                text_printf(&problems, "%zu problem%s", n_problems, plural(n_problems));
                fputs("  ", stdout);
                print_coloured(problems.chars ?: "", "failed");
                putchar('\n');
        }
        (void) fflush(stdout);
}

static void print_leaving(const View *v) {
        _cleanup_text_ Text t = {};

        JSON_EACH(m, json_value_member(v->cluster, "leaving")) {
                uint64_t n = member_number(m, "units");

                text_printable(&t, "%s%s", m_i > 0 ? ", " : "  leaving  ", member_text(m, "name"));
                if (n > 0)
                        text_printf(&t, " (%llu unit%s to move)", (unsigned long long) n, plural(n));
        }
        if (t.size > 0)
                output_words(&t, LABEL_WIDTH);
}

/* Print the machines that get no units: no problem, but easily forgotten. */
static void print_maintenance(const View *v) {
        const JsonValue *machines = json_value_member(v->cluster, "maintenance");
        _cleanup_text_ Text t = {};

        JSON_EACH(m, machines) {
                const char *reason = member_text(m, "reason");

                text_printable(&t, "%s%s %s", m_i > 0 ? ", " : "  drains   ", member_text(m, "name"),
                               member_text(m, "mode"));
                if (*reason) {
                        text_printable(&t, " (%s)", reason);
                }
        }
        if (t.size > 0)
                output_words(&t, LABEL_WIDTH);
}

/* Append the name and the state of each item. */
static void append_states(Text *t, const char *label, const JsonValue *items) {
        JSON_EACH(item, items) {
                text_append(t, item_i > 0 ? ", " : label);
                text_printable(t, "%s %s", member_text(item, "name"), member_text(item, "state"));
        }
}

/* Print how far the queue of reboots is. */
static void print_reboots(const View *v) {
        unsigned long long n_queued = member_number(v->cluster, "rebootsQueued");
        _cleanup_text_ Text t = {};

        append_states(&t, "  reboots  ", json_value_member(v->cluster, "rebooting"));
        if (n_queued > 0)
                text_printf(&t, "%s%llu queued", t.size > 0 ? ", " : "  reboots  ", n_queued);
        if (t.size > 0)
                output_words(&t, LABEL_WIDTH);
}

/* Print the rollouts that are under way. */
static void print_rollouts(const View *v) {
        _cleanup_text_ Text t = {};

        append_states(&t, "  rollouts ", json_value_member(v->cluster, "rollouts"));
        if (t.size > 0)
                output_words(&t, LABEL_WIDTH);
}

/* Print the texts that failed and were abandoned. It is no problem, as their units run. */
static void print_reverted(const View *v) {
        const JsonValue *all = json_value_member(v->cluster, "reverted");
        size_t n = json_value_count(all);

        for (size_t i = 0; i < MIN(n, (size_t) REVERTED_SHOWN); i++) {
                const JsonValue *r = json_value_item(all, i);
                _cleanup_text_ Text t = {};

                text_printable(&t, "  reverted %s revision %llu, ", member_text(r, "name"),
                               (unsigned long long) member_number(r, "revision"));
                append_span(&t, member_number(r, "ageMs"));
                text_printable(&t, " ago: %s", member_text(r, "why"));
                if (i + 1 == REVERTED_SHOWN && n > REVERTED_SHOWN)
                        text_printf(&t, "; and %zu more", n - REVERTED_SHOWN);
                output_words(&t, LABEL_WIDTH);
        }
}

/* A cluster with a key file, whose hosts do not need it any more. */
static void print_hint(const View *v) {
        const JsonValue *without = json_value_member(v->cluster, "withoutCertificate");
        _cleanup_text_ Text t = {}, command = {};

        if (!streq(member_text(v->cluster, "peerAuth"), "any") || json_value_count(without) > 0)
                return;
        text_append(&t, "  hint     all hosts have a certificate, and the key file can end:");
        text_append(&command, "fleetctl cluster secure");
        output_words_and(&t, " ", &command, LABEL_WIDTH);
}

/* The answer about the cluster of an attached host is that of its replica. */
static void print_access(Client *c, const View *v) {
        bool attached = streq(member_text(v->cluster, "role"), "attached");
        _cleanup_json_ JsonValue *local = NULL;
        _cleanup_text_ Text t = {};

        if (attached && client_get_json(c, "/fleet/v1/local", &local, NULL) < 0)
                return;
        if (!*member_text(attached ? local : v->cluster, "clientAccess"))
                return;
        text_append(&t,
                    "  hint     ListenClient= of this host is closed, because LocalRights= grants rights to "
                    "keys; ClientAccess= opens it");
        output_words(&t, LABEL_WIDTH);
}

static int screen_print(Client *c, const View *v) {
        _cleanup_text_ Text recent = {}, line = {};

        print_summary(v);
        TRY(problems_print(v, c->options.full));
        print_voters(v);
        print_leaving(v);
        print_maintenance(v);
        print_reboots(v);
        print_rollouts(v);
        print_reverted(v);
        TRY(events_append_recent(v->history, v->n_history, &v->machines, &recent));
        if (recent.size > 0) {
                text_printf(&line, "  recent   %s", recent.chars);
                output_words(&line, LABEL_WIDTH);
        }
        print_hint(v);
        print_access(c, v);
        return 0;
}

/* -- JSON -- */

/* Print all problems, and the daemon's answer about the cluster. */
static int json_print(const View *v) {
        static const char *const members[] = { "command", "description", "kind", "name" };
        const Text *cluster = &v->answer.body;
        size_t size = cluster->size;
        _cleanup_text_ Text t = {};

        while (size > 0 && strchr(" \n", cluster->chars[size - 1]))
                size--;
        text_printf(&t, "{\"attached\":%zu,\"cluster\":", n_attached(v));
        text_append_bytes(&t, cluster->chars, size);
        text_printf(&t, ",\"machines\":%zu", n_present(v, false));
        json_open(&t, "problems", '[');
        for (size_t i = 0; i < v->n_problems; i++) {
                json_open(&t, NULL, '{');
                for (size_t k = 0; k < ELEMENTS(members); k++)
                        json_add_string(&t, members[k], member_text(v->problems[i], members[k]));
                json_close(&t, '}');
        }
        json_close(&t, ']');
        text_printf(&t, ",\"units\":%llu}", (unsigned long long) member_number(v->cluster, "units"));
        return t.error < 0 ? t.error : output_line(t.chars);
}

int overview(Client *c, Error *err) {
        _cleanup_(view_done) View v = {};

        TRY_VERB(view_read(c, &v, err), err, "Failed to read the state of the cluster: ");
        TRY_VERB(view_read_history(c, &v, NULL, VIEW_RECENT_MS, VIEW_RECENT_MAX, err), err,
                 "Failed to read the state of the cluster: ");
        if (!member_bool(v.cluster, "removed"))
                client_note_stale(c);
        TRY(client_prints_json(c) ? json_print(&v) : screen_print(c, &v));
        return v.n_problems > 0 ? EXIT_FAILED : EXIT_DONE;
}
