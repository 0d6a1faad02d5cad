/* Whether this host resolves the names of services, and the next step if it does not. */
#pragma once

#include "base/text.h"

/* Append "this host resolves NAME", or why it does not; it is asked twice, for at most 2 s each. */
void resolver_append(Text *t, const char *name);

/* Append the next step on a host that does not resolve names of services, by what is below 'root' ("": /):
 * the program that has port 53, the line that resolv.conf lacks, or the unit that is not started. */
void resolver_append_next(Text *t, const char *root);
