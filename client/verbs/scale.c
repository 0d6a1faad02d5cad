/* scale: the number of instances of a template with Replicas=. The leader creates and destroys them. */

#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/notes.h"
#include "client/core/unit.h"
#include "units/placement.h"

enum { SCALE_NAMED = 10 };

/* Append the instances from 'first' to 'last': "web@4, web@5", and "and 3 more". */
static void scale_append_slots(Text *t, const char *template, uint64_t first, uint64_t last) {
        int stem = (int) strcspn(template, "@");

        for (uint64_t i = first; i <= last; i++) {
                if (i - first == SCALE_NAMED) {
                        text_printf(t, " and %llu more", (unsigned long long) (last - i + 1));
                        return;
                }
                if (i > first)
                        text_append(t, i == last ? " and " : ", ");
                text_printf(t, "%.*s@%llu", stem, template, (unsigned long long) i);
        }
}

/* Print the number, and the instances that are created or destroyed. 'before': the answer before it was set.
 */
static int scale_print(const char *name, const JsonValue *before, uint64_t n, bool scaled) {
        uint64_t was = member_number(before, "count"), first = MIN(n, was) + 1, last = MAX(n, was);
        _cleanup_text_ Text t = {};

        text_printable(&t, "%s: ", name);
        text_printf(&t, "%llu %s", (unsigned long long) n, n == 1 ? "replica" : "replicas");
        if (scaled)
                text_printf(&t, " (file: %llu)", (unsigned long long) member_number(before, "file"));
        if (first <= last) {
                text_append(&t, ": ");
                scale_append_slots(&t, name, first, last);
                text_printf(&t, " %s %s", first == last ? "is" : "are", n > was ? "created" : "destroyed");
        }
        return output_built(&t);
}

/* Print which of the instances have data: created ones start with it, that of destroyed ones stays. */
static void scale_note_data(Client *c, const char *template, uint64_t n, uint64_t was) {
        int stem = (int) strcspn(template, "@") + 1;

        for (uint64_t i = MIN(n, was) + 1, k = 0; i <= MAX(n, was) && k < DATA_NOTES_MAX; i++, k++) {
                _cleanup_json_ JsonValue *root = NULL;
                _cleanup_text_ Text name = {};

                text_printf(&name, "%.*s%llu%s", stem, template, (unsigned long long) i, template + stem);
                root = name.error < 0 ? NULL : client_get_data(c, "?unit=", name.chars);
                JSON_EACH(unit, json_value_member(root, "units"))
                        if (*member_text(unit, "machine"))
                                client_note(
                                        n > was ?
                                                "%s starts with its data on %s" :
                                                "%s: its data stays on %s; a unit of this name returns there",
                                        name.chars, member_text(unit, "machine"));
        }
}

/* An instance with a text of its own is none of the set. */
static void scale_note_apart(const JsonValue *before, const char *name) {
        JSON_EACH(item, json_value_member(before, "apart")) {
                const char *unit = json_value_string(item) ?: "";

                client_note("%s has a text of its own, and is none of them; to let it follow %s: fleetctl "
                            "start --replace %s",
                            unit, name, unit);
        }
}

static int scale_request(Client *c, const char *path, const uint64_t *count, Error *err) {
        _cleanup_text_ Text body = {};

        if (!count)
                return client_request(c, "DELETE", path, NULL, NULL, err);
        json_open(&body, NULL, '{');
        json_begin(&body, "count");
        text_printf(&body, "%llu", (unsigned long long) *count);
        json_close(&body, '}');
        return client_request(c, "PUT", path, &body, NULL, err);
}

static int scale_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_json_ JsonValue *before = NULL;
        _cleanup_free_ char *name = NULL;
        _cleanup_text_ Text path = {};
        uint64_t count = 0;
        bool file;
        int r;

        if (n != 2)
                return client_usage("scale: expected a template, and a number or \"file\"");
        file = streq(args[1], "file");
        if (!file && (parse_u64(args[1], &count) < 0 || count > UNIT_REPLICAS_MAX))
                return client_usage("scale: expected a number from 0 to 1000, or \"file\"");
        name = unit_name_from_argument(args[0]);
        if (!name)
                return -ENOMEM;
        (void) client_path_of(&path, "/fleet/v1/units/", name, "/replicas");
        r = TRY_VERB(client_refresh_json(c, client_path(&path), &before, err), err,
                     "Failed to scale %s: ", name);
        if (r == 0)
                return client_note_absent(c, name);
        TRY_VERB(scale_request(c, client_path(&path), file ? NULL : &count, err), err,
                 "Failed to scale %s: ", name);
        if (client_prints_json(c))
                return client_print_answer(c, client_path(&path), err);
        if (file)
                count = member_number(before, "file");
        TRY(scale_print(name, before, count, !file));
        scale_note_apart(before, name);
        scale_note_data(c, name, count, member_number(before, "count"));
        return EXIT_DONE;
}

VERB(scale, "scale", "json", "UNIT NUMBER|file", "Set how many instances a template with Replicas= has",
     "The cluster creates missing ones, named by numbers from 1 on, and destroys those above the number,\n"
     "without asking the availability budget. \"file\" returns to Replicas= of the file; so does a new text\n"
     "with another Replicas=. The command does not wait for the instances.\n"
     "Exit status 0: set, 1: rejected, 4: no such unit.\n\n"
     "fleetctl scale web@.service 5\n",
     scale_run);
