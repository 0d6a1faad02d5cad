/* Filters of the journal, checked as journalctl(1) does, before a journal is read. Pure. */
#pragma once

#include "base/error.h"

/* Check a field match, "FIELD=VALUE": at most 64 of A-Z, 0-9 and _, no digit first, and a value without
 * control characters. -EINVAL: the message says what was expected. */
int journal_match_check(const char *match, Error *err);

/* Check a priority ("err", "3") or a range of them ("err..warning"). -EINVAL as above. */
int journal_priority_check(const char *priority, Error *err);

/* Check that a regular expression is one line; the journal's own tool compiles it. */
int journal_grep_check(const char *pattern, Error *err);
