/* The list of all verbs. */
#pragma once

#include "client/core/verb.h"

extern const Verb *const verbs[]; /* in the order of the help; ends with NULL */
