/* What the files of units/options.h share: the table of options and its parsers are in options.c, warnings in
 * option_warnings.c. */
#pragma once

#include "units/placement.h"
#include "units/unit_file.h"
#include "units/warnings.h"

typedef struct OptionRow OptionRow;

/* The state while the options of one unit are parsed. */
typedef struct Reading {
        const char *name; /* of the unit; NULL keeps specifiers */
        const UnitFile *file;
        const UnitOption *option; /* current */
        const OptionRow *row;     /* of the current option */
        const char *item;         /* of its value, with specifiers; of a list */
        Placement *placement;
        unsigned lines[PORTS_MAX]; /* of the names of the current row, which must differ */
        bool waits;                /* a Service= or Port= is the instance's */
        uint32_t max_mib;          /* MemoryMax= of the file; 0: none */
        Warnings *warnings;        /* may be NULL */
        Error *err;
} Reading;

/* Warn about the current option; 0 or -ENOMEM. */
int options_warn(Reading *r, const char *format, ...) _printf_(2, 3);

/* Warn once about a section that is probably misspelt, at its name. 0 or -ENOMEM. */
int options_warn_section(Reading *r, const UnitFile *file);

/* Warn that the current option has no effect, or another one than a user may expect, beside the others, all
 * of which were read. 0 or -ENOMEM. */
int options_warn_effect(Reading *r, const UnitFile *file);
