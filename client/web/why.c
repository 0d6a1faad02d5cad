#include "client/web/why.h"

#include "client/core/machines.h"
#include "client/core/state_text.h"
#include "client/web/view.h"

enum { WHY_EVENTS = 20 };

/* Add a line: its label, and a text unless that is empty. */
static void why_add(Text *t, const char *label, const char *text) {
        if (!*text)
                return;
        json_open(t, NULL, '[');
        web_add(t, NULL, label);
        web_add(t, NULL, text);
        json_close(t, ']');
}

static void why_add_text(Text *t, const char *label, const Text *text) {
        t->error = MIN(t->error, text->error);
        why_add(t, label, text_chars(text));
}

static void why_add_command(Text *t, const char *command, const char *argument) {
        _cleanup_text_ Text whole = {};

        text_printf(&whole, "fleetctl %s%s", command, argument);
        t->error = MIN(t->error, whole.error);
        web_add(t, NULL, text_chars(&whole));
}

/* Add why a machine is chosen or excluded; of a machine that has the unit, nothing new. */
static void why_add_machine(Text *t, const JsonValue *m) {
        const char *reason = member_text(m, "reason");
        _cleanup_text_ Text line = {};

        if (member_bool(m, "longLost") || *member_assignment(m))
                return;
        text_printf(&line, "%s%s%s", member_bool(m, "fits") ? "yes" : "no", *reason ? ": " : "", reason);
        why_add_text(t, state_place(m), &line);
}

static void why_add_states(Text *t, const JsonValue *why) {
        JSON_EACH(m, json_value_member(why, "machines")) {
                const ApiState s = state_reported(why, m);
                _cleanup_text_ Text line = {};

                if (!s.active)
                        continue;
                append_state(&line, &s, state_place(m));
                why_add_text(t, "state", &line);
                if (s.health && s.why && *s.why)
                        why_add(t, "health", s.why);
        }
}

void web_why_append_unit(Text *t, const JsonValue *why, const View *v) {
        const JsonValue *inputs = json_value_member(why, "inputs");
        const char *name = member_text(why, "name");

        json_open(t, NULL, '{');
        json_open(t, "lines", '[');
        why_add_states(t, why);
        why_add(t, "placement", member_text(why, "reason"));
        why_add(t, "rollout", member_text(why, "rollout"));
        why_add(t, "data", member_text(json_value_member(why, "data"), "reason"));
        why_add(t, "inputs", member_text(inputs, "problem"));
        why_add(t, "file", member_text(why, "file"));
        JSON_EACH(m, json_value_member(why, "machines"))
                why_add_machine(t, m);
        json_close(t, ']');
        web_add_events(t, v->history, v->n_history, &v->machines, NULL, WHY_EVENTS);
        json_open(t, "commands", '[');
        why_add_command(t, "why ", name);
        why_add_command(t, "journal ", name);
        if (*member_text(why, "rolloutNext"))
                why_add_command(t, member_text(why, "rolloutNext"), "");
        if (*member_text(inputs, "command"))
                why_add_command(t, member_text(inputs, "command"), "");
        JSON_EACH(step, json_value_member(why, "steps"))
                why_add_command(t, json_value_string(step) ?: "", "");
        json_close(t, ']');
        json_close(t, '}');
}

void web_why_append_machine(Text *t, const ApiMachine *m, const View *v) {
        _cleanup_text_ Text name = {}, line = {};

        append_machine_name(&name, &v->machines, m->id);
        text_printf(&line, "%s%s%s", presence_word(m->presence ?: "up"), m->reason && *m->reason ? ": " : "",
                    m->reason ?: "");
        t->error = MIN(t->error, name.error);
        json_open(t, NULL, '{');
        json_open(t, "lines", '[');
        why_add_text(t, "presence", &line);
        for (size_t i = 0; i < v->n_problems; i++)
                if (streq(member_text(v->problems[i], "name"), text_chars(&name)))
                        why_add(t, "problem", member_text(v->problems[i], "description"));
        JSON_EACH(host, json_value_member(v->cluster, "maintenance")) {
                if (!streq(member_text(host, "name"), text_chars(&name)))
                        continue;
                why_add(t, "maintenance", member_text(host, "mode"));
                why_add(t, "reason", member_text(host, "reason"));
                why_add(t, "waiting", member_text(host, "why"));
        }
        why_add(t, "address", m->primary_ip ?: "");
        why_add(t, "version", m->version ?: "");
        json_close(t, ']');
        web_add_events(t, v->history, v->n_history, &v->machines, m->id, WHY_EVENTS);
        json_open(t, "commands", '[');
        for (size_t i = 0; i < v->n_problems; i++)
                if (streq(member_text(v->problems[i], "name"), text_chars(&name)) &&
                    *member_text(v->problems[i], "command"))
                        web_add(t, NULL, member_text(v->problems[i], "command"));
        why_add_command(t, "events --machine=", text_chars(&name));
        why_add_command(t, "log --machine=", text_chars(&name));
        json_close(t, ']');
        json_close(t, '}');
}
