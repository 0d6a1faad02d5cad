/* Shared by the files that parse options of [X-Fleet]. */
#pragma once

#include "units/placement.h"
#include "units/unit_file.h"
#include "units/warnings.h"

/* The state while the options of one unit are parsed. */
typedef struct Reading {
        const char *name;         /* of the unit; NULL keeps specifiers */
        const UnitOption *option; /* current */
        Placement *placement;
        Warnings *warnings; /* may be NULL */
        Error *err;
} Reading;

/* Warn about the current option; 0 or -ENOMEM. */
int options_warn(Reading *r, const char *format, ...) _printf_(2, 3);
/* Reject an item of the current option: -EINVAL. */
int options_refuse(Reading *r, const char *item, const char *why);
/* Parse a span of up to SPAN_MAX_MS: 0 or -EINVAL. */
int options_read_span(const char *item, uint64_t *ret);
/* As options_read_span(), but a longer span of a stored unit is SPAN_MAX_MS: earlier versions had no limit.
 */
int options_read_stored_span(const Reading *r, const char *item, uint64_t *ret);

/* Take an item of the current option, into its member of the placement. */
typedef int (*OptionTake)(Reading *r, const char *item, void *field);

/* The options of units/update.h. */
int take_share(Reading *r, const char *item, void *field);        /* Share */
int take_span(Reading *r, const char *item, void *field);         /* uint64_t, in ms, as the next */
int take_span_above_0(Reading *r, const char *item, void *field); /* 0 counts as 1 ms */
int take_results(Reading *r, const char *item, void *field);      /* unsigned: of checks */
int take_promote(Reading *r, const char *item, void *field);
int take_update_by(Reading *r, const char *item, void *field);
int take_on_failure(Reading *r, const char *item, void *field);
int take_health_http(Reading *r, const char *item, void *field);
int take_health_tcp(Reading *r, const char *item, void *field);
int take_health_exec(Reading *r, const char *item, void *field);
int take_health_interval(Reading *r, const char *item, void *field);
int take_health_timeout(Reading *r, const char *item, void *field);
int take_health_action(Reading *r, const char *item, void *field);
/* ReloadTrigger= and RestartTrigger=: any text, which is only compared (units/effect.h). */
int take_trigger(Reading *r, const char *item, void *field);
