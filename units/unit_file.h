/* Unit files: an ordered list of (section, name, value), parsed from and printed in systemd's grammar.
 *
 * There are two grammars. LITERAL is fleet's, and fleet's hashes depend on it: a value keeps its continuation
 * lines with backslash, newline and indentation; nothing is unquoted or expanded; text before the first
 * section is dropped. SYSTEMD is for fleetd.conf: continuation lines are joined by a space, comments between
 * them are dropped, and an option outside a section is an error.
 *
 * Printing groups options by section, in the order of the sections' first appearance. The hash is that of the
 * printed text. */
#pragma once

#include "base/error.h"
#include "base/text.h"

enum {
        UNIT_SIZE_MAX = 128 * 1024, /* bytes of a unit file: with JSON escapes, it fits into one log entry */
        UNIT_LINE_MAX = 2047, /* bytes of one line without its end: systemd truncated longer ones silently */
};

typedef struct UnitOption {
        const char *section;   /* borrowed from UnitFile.sections */
        char *name, *value;    /* one allocation, owned by 'name' */
        unsigned line;         /* first line of the option; 0: not parsed from a text */
        unsigned section_line; /* of the section's name; 0 as well */
} UnitOption;

typedef struct UnitFile {
        UnitOption *options;
        size_t n_options, capacity;
        char **sections; /* in order of appearance; a repeated section is repeated here */
        size_t n_sections, sections_capacity;
        unsigned section_line; /* of the last one */
        bool is_part;          /* one option of a file: nothing is known about the others */
} UnitFile;

typedef enum UnitFileGrammar {
        UNIT_FILE_LITERAL,
        UNIT_FILE_SYSTEMD,
} UnitFileGrammar;

void unit_file_done(UnitFile *file);
#define _cleanup_unit_file_ _cleanup_(unit_file_done)

/* Parse 'size' bytes; unit_file_done() frees *ret. Errors begin with "line N: ": -EBADMSG for grammar, bytes
 * that are not UTF-8, and NUL; -EFBIG above UNIT_SIZE_MAX. */
int unit_file_parse(const char *text, size_t size, UnitFileGrammar grammar, UnitFile *ret, Error *err);

/* Append one option; copies the strings. Return 0 or -ENOMEM. */
int unit_file_add(UnitFile *file, const char *section, const char *name, const char *value, unsigned line);

/* Append fleet's canonical text; nothing for a file without options. 'skip' (may be NULL) returns whether to
 * leave a section out. */
void unit_file_print(const UnitFile *file, Text *t, bool (*skip)(const char *section));

/* Return the value of the last option of that name, which is that of a scalar in systemd, or NULL. For lists,
 * iterate over 'options'. */
const char *unit_file_get(const UnitFile *file, const char *section, const char *name);
bool unit_file_has_section(const UnitFile *file, const char *section);

/* "X-Fleet" or "X-Fleetd", which systemd ignores. */
bool unit_file_section_is_ours(const char *section);
