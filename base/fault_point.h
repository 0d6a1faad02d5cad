/* Named moments before and after each durable step, at which a test kills the daemon:
 * tests/unit/test-fault_points.c knows all of them by name. Compiled in with the planted bugs only; else they
 * cost nothing and do nothing. */
#pragma once

/* The process dies here by SIGKILL if the environment says so: FAULT_POINT=NAME, or FAULT_POINT=NAME#N for
 * the N-th time that it comes by. With FAULT_POINTS_SEEN=FILE each name that is passed for the first time is
 * written into FILE. 'subject' is a part of the name where one line serves many files: "file-synced
 * identity"; NULL: none. Any thread. */
#ifdef PLANTED_BUGS
void fault_point_of(const char *name, const char *subject);
#else
#define fault_point_of(name, subject) ((void) (subject))
#endif
#define fault_point(name) fault_point_of(name, NULL)
