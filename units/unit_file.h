/* Unit files as text: an ordered list of (section, name, value), parsed from and printed to systemd's
 * grammar.
 *
 * Two readings. LITERAL is fleet's, on which its hashes rest: continuation lines stay in the value as they
 * are, with backslash, newline and indentation; nothing is unquoted or expanded; what stands before the first
 * section is dropped. SYSTEMD is for our own configuration: continuation lines are joined by a space,
 * comments between them vanish, and an option outside a section is an error.
 *
 * Printing groups options by section, in the order of the sections' first appearance. That text is what is
 * hashed. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/text.h"

enum {
        UNIT_SIZE_MAX = 128 *
                        1024, /* bytes of a unit file; with its JSON escapes it must fit into one log entry */
        UNIT_LINE_MAX = 2047, /* bytes of one line without its end: systemd cut longer ones silently */
};

typedef struct UnitOption {
        const char *section; /* the file's: shared by the options that follow it */
        char *name, *value;  /* one allocation, which 'name' owns */
        unsigned line;       /* where the option begins; 0 if it did not come from a text */
} UnitOption;

typedef struct UnitFile {
        UnitOption *options;
        size_t n_options, capacity;
        char **sections; /* in their order; one that begins again is there again */
        size_t n_sections, sections_capacity;
} UnitFile;

typedef enum UnitFileGrammar {
        UNIT_FILE_LITERAL,
        UNIT_FILE_SYSTEMD,
} UnitFileGrammar;

void unit_file_done(UnitFile *file);
#define _cleanup_unit_file_ _cleanup_(unit_file_done)

/* Reads 'size' bytes. *ret is empty or to be freed by unit_file_done(). Errors begin with "line N: ":
 * -EBADMSG for grammar, bytes that are not UTF-8, and NUL; -EFBIG above UNIT_SIZE_MAX. */
int unit_file_parse(const char *text, size_t size, UnitFileGrammar grammar, UnitFile *ret, Error *err);

/* Appends one option; the strings are copied. 0 or -ENOMEM. */
int unit_file_add(UnitFile *file, const char *section, const char *name, const char *value, unsigned line);

/* Appends fleet's canonical text; nothing for a file without options. 'skip' (may be NULL) says which
 * sections to leave out. */
void unit_file_print(const UnitFile *file, Text *t, bool (*skip)(const char *section));

/* The last option of that name, as systemd reads scalars; NULL if there is none. Lists: iterate over
 * 'options'. */
const UnitOption *unit_file_find(const UnitFile *file, const char *section, const char *name);
const char *unit_file_get(const UnitFile *file, const char *section, const char *name);
bool unit_file_has_section(const UnitFile *file, const char *section);

/* "X-Fleet" or "X-Fleetd": ours, unknown to systemd. */
bool unit_file_section_is_ours(const char *section);
