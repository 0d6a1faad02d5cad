/* The document "why": the details of a unit or a machine, in the words of the daemon. Pure. */
#pragma once

#include "client/verbs/overview.h"

/* 'why': the daemon's answer about the unit. 'v': the machines, and the last rows of the history of the unit.
 */
void web_why_append_unit(Text *t, const JsonValue *why, const View *v);
/* 'v': the cluster with its problems, and the last rows of its history. */
void web_why_append_machine(Text *t, const ApiMachine *m, const View *v);
