/* scale: the number of instances of a template with Replicas=. The leader creates and destroys them. */

#include "base/parse.h"
#include "client/core/client.h"
#include "client/core/notes.h"
#include "client/core/unit.h"
#include "client/verbs/found.h"
#include "units/placement.h"

enum { SCALE_NAMED = 10 };

/* Append the first of these instances, without the type: "web@4, web@5", and "and 3 more". */
static void scale_append_slots(Text *t, const Names *slots) {
        for (size_t i = 0; i < slots->n; i++) {
                if (i == SCALE_NAMED) {
                        text_printf(t, " and %zu more", slots->n - i);
                        return;
                }
                if (i > 0)
                        text_append(t, i == slots->n - 1 ? " and " : ", ");
                text_printf(t, "%.*s", (int) strcspn(slots->items[i], "."), slots->items[i]);
        }
}

/* Print the number, and the instances that are created or destroyed. 'is': the answer after the change. */
static int scale_print(const char *name, const JsonValue *is, const Names *slots, bool more) {
        uint64_t n = member_number(is, "count");
        _cleanup_text_ Text t = {};

        text_printable(&t, "%s: ", name);
        text_printf(&t, "%llu %s", (unsigned long long) n, n == 1 ? "replica" : "replicas");
        if (*member_text(is, "scaledBy"))
                text_printf(&t, " (file: %llu)", (unsigned long long) member_number(is, "file"));
        if (slots->n > 0) {
                text_append(&t, ": ");
                scale_append_slots(&t, slots);
                text_printf(&t, " %s %s", slots->n == 1 ? "is" : "are", more ? "created" : "destroyed");
        }
        return output_built(&t);
}

/* Set 'ret' to the slots between the two numbers that are created or destroyed: an instance that is there
 * already, or that has a text of its own, is not touched. */
static int scale_slots(const char *name, const JsonValue *before, const JsonValue *is, Names *ret) {
        uint64_t was = member_number(before, "count"), n = member_number(is, "count");
        const JsonValue *there = n > was ? json_value_member(before, "above") : NULL,
                        *apart = json_value_member(n > was ? is : before, "apart");
        _cleanup_names_ Names all = {};

        TRY(found_slots(name, MIN(n, was) + 1, MAX(n, was), &all));
        for (size_t i = 0; i < all.n; i++)
                if (!json_list_has(there, all.items[i]) && !json_list_has(apart, all.items[i]))
                        TRY(names_add(ret, all.items[i], strlen(all.items[i])));
        return 0;
}

/* Print which instances are none of the set, and which of the changed ones have data. */
static void scale_note(Client *c, const char *name, const JsonValue *before, const JsonValue *is,
                       const Names *slots) {
        bool more = member_number(is, "count") > member_number(before, "count");
        _cleanup_text_ Text apart = {};

        append_apart(&apart, more ? is : before); /* that with more slots */
        if (apart.size > 0 && apart.error == 0)
                client_note("%s", apart.chars);
        JSON_EACH(item, more ? NULL : json_value_member(is, "above"))
                if (item_i < SCALE_NAMED)
                        client_note("%s stays: it was started by its name; to remove it: fleetctl destroy %s",
                                    json_value_string(item) ?: "", json_value_string(item) ?: "");
        if (slots->n > 0)
                client_note_kept_data(c, name, slots, more);
}

static int scale_request(Client *c, const char *path, const uint64_t *count, Error *err) {
        _cleanup_text_ Text body = {};

        if (!count)
                return client_request(c, "DELETE", path, NULL, NULL, err);
        text_printf(&body, "{\"count\":%llu}", (unsigned long long) *count);
        return client_request(c, "PUT", path, &body, NULL, err);
}

/* If a name is that of an instance, or lacks the '@', print the command for its template with Replicas=. */
static void scale_suggest(Client *c, const char *name, const char *number) {
        const char *type = unit_name_type(name);
        size_t stem = MIN(strcspn(name, "@"), (size_t) (type - name) - 1);
        _cleanup_json_ JsonValue *set = NULL;
        _cleanup_text_ Text template = {};

        text_printf(&template, "%.*s@.%s", (int) stem, name, type);
        if (template.error >= 0 && !unit_name_is_template(name) &&
            found_read_set(c, template.chars, &set, NULL) > 0)
                client_note("%s: did you mean fleetctl scale %s %s?", name, template.chars, number);
}

static int scale_run(Client *c, char **args, size_t n, Error *err) {
        _cleanup_json_ JsonValue *before = NULL, *is = NULL;
        _cleanup_free_ char *name = NULL;
        _cleanup_names_ Names slots = {};
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
        r = client_refresh_json(c, client_path(&path), &before, err);
        if (r <= 0)
                scale_suggest(c, name, args[1]);
        r = TRY_VERB(r, err, "Failed to scale %s: ", name);
        if (r == 0)
                return client_note_absent(c, name);
        TRY_VERB(scale_request(c, client_path(&path), file ? NULL : &count, err), err,
                 "Failed to scale %s: ", name);
        if (client_prints_json(c))
                return client_print_answer(c, client_path(&path), err);
        TRY(client_get_json(c, client_path(&path), &is, err));
        TRY(scale_slots(name, before, is, &slots));
        TRY(scale_print(name, is, &slots, member_number(is, "count") > member_number(before, "count")));
        scale_note(c, name, before, is, &slots);
        return EXIT_DONE;
}

VERB(scale, "scale", "json", "UNIT NUMBER|file", "Set how many instances a template with Replicas= has",
     "The cluster creates missing ones, named by numbers from 1 on, and destroys those above the number,\n"
     "without asking the availability budget. \"file\" returns to Replicas= of the file; so does a new text\n"
     "with another Replicas=. The command does not wait for the instances.\n"
     "Exit status 0: set, 1: rejected, 4: no such unit.\n\n"
     "fleetctl scale web@.service 5\n",
     scale_run);
