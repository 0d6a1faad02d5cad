/* Arbitrary bytes as a unit file, in both grammars. Printing an accepted one, and converting it to JSON and
 * back, keeps it unchanged. */

#include "units/data.h"
#include "units/stored_json.h"
#include "units/unit.h"
#include "tests/lib/placement_model.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* A last value that ends in a backslash is continued when printed: a quirk of fleet. */
static bool has_quirk(const UnitFile *file) {
        for (size_t i = 0; i < file->n_options; i++)
                if (ends_with(file->options[i].value, "\\"))
                        return true;
        return false;
}

static void print_and_parse(const UnitFile *file) {
        _cleanup_unit_file_ UnitFile again = {};
        _cleanup_text_ Text first = {}, second = {};
        int r;

        unit_file_print(file, &first, NULL);
        if (file->n_options == 0 || has_quirk(file))
                return;

        /* Grouping moves options, so a grouped file has one reading only. */
        r = unit_file_parse(first.chars, first.size, UNIT_FILE_LITERAL, &again, NULL);
        assert(r == 0);
        unit_file_print(&again, &second, NULL);
        assert(streq(first.chars, second.chars));
        assert(again.n_options == file->n_options);
}

static void write_and_read(const Unit *unit) {
        _cleanup_unit_ Unit *again = NULL;
        _cleanup_text_ Text t = {};
        int r;

        assert(unit->placement.size.memory_mib > 0 && unit->placement.size.cpu_percent > 0);
        assert(!unit->placement.data || strlen(unit->placement.data) <= DATA_TEXT_MAX);
        stored_unit_write(&t, unit);
        assert(t.size <= RECORD_SIZE_MAX);
        r = stored_unit_read(unit->name, t.chars, t.size, &again, NULL);
        assert(r == 0);
        assert(streq(unit->text, again->text));
        assert(unit_equal(unit, again));
        assert(placement_equal(&unit->placement, &again->placement));
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
        static const char *const names[] = { "a.service", "a@.service", "a@in.stance.service", "a.container",
                                             "a.volume",  "a_b.socket", "a_b@c.kube" };
        const char *text = (const char *) bytes;

        for (UnitFileGrammar grammar = UNIT_FILE_LITERAL; grammar <= UNIT_FILE_SYSTEMD; grammar++) {
                _cleanup_unit_file_ UnitFile file = {};
                Error err = {};

                if (unit_file_parse(text, size, grammar, &file, &err) < 0)
                        assert(err.code < 0 && err.message[0]);
                else if (grammar == UNIT_FILE_LITERAL)
                        print_and_parse(&file);
        }
        for (size_t i = 0; i < ELEMENTS(names); i++) {
                _cleanup_unit_ Unit *unit = NULL;
                Error err = {};

                if (unit_parse(names[i], text, size, &unit, &err) < 0)
                        assert(err.code < 0 && err.message[0]);
                else
                        write_and_read(unit);
        }
        return 0;
}
