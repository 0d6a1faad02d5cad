#include "fleetd/problems/problems_internal.h"

#include <time.h>

#include "fleetd/registry/unit_order.h"

const char *const problem_severity_names[_SEVERITY_MAX] = {
        [SEVERITY_INFO] = "info",
        [SEVERITY_WARNING] = "warning",
        [SEVERITY_CRITICAL] = "critical",
};

enum { VIEW_WORK = 100000 }; /* of the scheduler, in one search: about 10 ms */

/* The last component is the first one: it is opened after those that it uses. */
const ProblemRow *problems_row(const Component *const *components, size_t i) {
        const ProblemRow *rows = problem_host_rows;
        size_t n = 0;

        while (components && components[n])
                n++;
        for (bool last = false;; rows++) {
                while (!rows || !rows->kind) {
                        if (last)
                                return NULL;
                        last = n == 0;
                        rows = last ? problem_unit_rows : components[--n]->problems;
                }
                if (i-- == 0)
                        return rows;
        }
}

/* -- Adding -- */

static void add_command(ProblemSearch *s) {
        const char *id = strstr(s->subject, " ("); /* of a machine with a namesake */
        _cleanup_text_ Text t = {};

        text_printf(&t, "fleetctl %s", s->next);
        if (strchr(" =", s->next[strlen(s->next) - 1]))
                text_append_bytes(&t, id ? id + 2 : s->subject,
                                  id ? strcspn(id + 2, ")") : strlen(s->subject));
        json_add_string(&s->list, "command", text_chars(&t));
        s->list.error = s->list.error ?: t.error;
}

bool problems_add(ProblemSearch *s, const ProblemRow *row, const char *format, ...) {
        va_list ap;

        s->n++;
        va_start(ap, format);
        text_vprintf(&s->what, format, ap);
        va_end(ap);
        if (s->counts)
                s->counts[s->at]++;
        else {
                json_open(&s->list, NULL, '{');
                if (s->next && *s->next)
                        add_command(s);
                json_add_string(&s->list, "description", text_chars(&s->what));
                json_add_string(&s->list, "kind", row->kind);
                json_add_string(&s->list, "name", s->subject);
                json_add_string(&s->list, "severity", problem_severity_names[row->severity]);
                json_close(&s->list, '}');
        }
        s->list.error = s->list.error ?: s->what.error;
        text_clear(&s->what);
        return true;
}

const SchedulerView *problems_view(ProblemSearch *s) {
        if (!s->view && scheduler_view_new(s->cluster, s->cluster->now_ms, &s->view) < 0)
                s->list.error = -ENOMEM;
        return s->view;
}

void problems_append_clock(ProblemSearch *s, uint64_t wall_ms, bool seconds) {
        time_t at = (time_t) (((int64_t) wall_ms + s->zone_ms) / 1000),
               now = (time_t) (((int64_t) s->wall_ms + s->zone_ms) / 1000);
        struct tm when = {}, today = {};
        char text[48] = "";

        (void) gmtime_r(&at, &when);
        (void) gmtime_r(&now, &today);
        if (when.tm_year != today.tm_year || when.tm_yday != today.tm_yday)
                (void) strftime(text, sizeof(text), seconds ? "%F %T" : "%F %H:%M", &when);
        else
                (void) strftime(text, sizeof(text), seconds ? "%T" : "%H:%M", &when);
        text_append(&s->what, text);
}

/* -- Searching -- */

static bool search_ends(ProblemSearch *s) {
        return s->list.error < 0 || s->n >= s->max || s->visits++ >= s->work ||
               (s->view && scheduler_view_work(s->view) >= VIEW_WORK);
}

/* Search one object for the rows of a pass. */
static void search_object(ProblemSearch *s, const ProblemRow *rows, const char *subject) {
        bool found = false;

        for (const ProblemRow *row = rows; row->kind && row->of == rows->of && !found; row++) {
                s->at = s->row + (size_t) (row - rows);
                s->subject = subject;
                s->next = row->next;
                found = (!s->may || s->may(s->userdata, row->right)) && row->find(s, row);
                text_clear(&s->what);
        }
}

static void search_set_place(ProblemSearch *s, const ClusterMachine *m) {
        char label[CLUSTER_LABEL_SIZE];

        snprintf(s->place, sizeof(s->place), "%s", cluster_machine_label(m, label));
}

static void search_files(ProblemSearch *s, const ProblemRow *rows) {
        _cleanup_free_ const ClusterProblem **files = NULL;
        size_t n;

        files = cluster_problems_sorted(s->machine, &n);
        if (!files)
                s->list.error = -ENOMEM;
        for (size_t i = 0; files && i < n; i++) {
                s->file = files[i];
                search_object(s, rows, s->file->unit);
        }
}

bool problem_is_unreachable_voter(const ProblemSearch *s, const ClusterMachine *m) {
        for (size_t i = 0; i < s->state.n_members && m->member.raft_id != 0; i++)
                if (s->state.members[i].raft_id == m->member.raft_id)
                        return s->state.members[i].role == KV_MEMBER_VOTER && !s->state.members[i].reachable;
        return false;
}

/* Return false if it is to be continued after s->after; so the next one. */
static bool search_machines(ProblemSearch *s, const ProblemRow *rows) {
        for (size_t i = 0; i < s->n_machines; i++) {
                const ClusterMachine *m = s->machine = s->machines[i];

                if (strcmp(m->id, s->after) <= 0 || cluster_machine_is_removed(m))
                        continue;
                if (search_ends(s))
                        return false;
                snprintf(s->after, sizeof(s->after), "%s", m->id);
                if (rows->of == ABOUT_PRESENCE && problem_is_unreachable_voter(s, m))
                        continue;
                search_set_place(s, m);
                if (rows->of == ABOUT_FILE)
                        search_files(s, rows);
                else
                        search_object(s, rows, s->place);
        }
        return true;
}

static bool search_units(ProblemSearch *s, const ProblemRow *rows) {
        const UnitOrder *order = &s->cluster->by_name;
        UnitPosition at = {};

        if (s->after[0] && unit_order_prefix(order, s->after, strlen(s->after) + 1, &at) > 0)
                (void) unit_order_next(order, &at);
        while ((s->unit = unit_order_next(order, &at))) {
                if (search_ends(s))
                        return false;
                snprintf(s->after, sizeof(s->after), "%s", s->unit->name);
                if (rows->of < ABOUT_STATE)
                        search_object(s, rows, s->unit->name);
                s->on = rows->of == ABOUT_STATE ? LIST_FIRST(&s->unit->states) : NULL;
                for (; s->on; s->on = LIST_NEXT(s->on, of_unit))
                        if (!presence_is_down(s->on->machine->presence)) {
                                search_set_place(s, s->on->machine);
                                search_object(s, rows, s->unit->name);
                        }
        }
        return true;
}

int problems_search(ProblemSearch *s, size_t max, size_t work) {
        const ProblemRow *rows;
        bool done = true;

        s->max = max;
        s->work = work;
        s->visits = 0;
        s->now_ms = s->cluster->now_ms + s->state.stale_ms;
        s->machines = cluster_machines_sorted(s->cluster, &s->n_machines);
        if (!s->machines || engine_brake_state(s->cluster, s->brake_ms, &s->brake) < 0)
                return -ENOMEM;
        while (done && (rows = problems_row(s->components, s->row)) &&
               (rows->of == ABOUT_HOST || !s->state.attached)) {
                if (rows->of <= ABOUT_CLUSTER)
                        search_object(s, rows, "cluster");
                else
                        done = rows->of < ABOUT_MOVE ? search_machines(s, rows) : search_units(s, rows);
                if (s->list.error < 0)
                        return -ENOMEM;
                for (const ProblemRow *row = rows; done && row->kind && row->of == rows->of; row++)
                        s->row++;
                if (done)
                        s->after[0] = 0;
        }
        return !done;
}

void problems_done(ProblemSearch *s) {
        text_done(&s->list);
        text_done(&s->replica);
        text_done(&s->rejection);
        text_done(&s->what);
        free(s->loops);
        free(s->machines);
        scheduler_view_free(s->view);
}
