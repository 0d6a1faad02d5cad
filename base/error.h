/* Errors: a negative errno for the program, a message for the user.
 *
 * A function whose failures need more than an errno takes an 'Error *err' (may be NULL) as last argument. The
 * function that detects the failure sets the message; each caller adds only its own context in front:
 * "web.service: line 7: ...". */
#pragma once

#include "base/memory.h"

enum { ERROR_MESSAGE_MAX = 512 };

typedef struct Error {
        int code;                        /* negative errno, 0: not set */
        const char *next;                /* the next step, for people: static; or NULL */
        char message[ERROR_MESSAGE_MAX]; /* one line: '?' replaces each control character; a
                                          * longer one ends with "..." */
} Error;

/* Set the message. Return 'code' (negative errno). */
int error_set(Error *err, int code, const char *format, ...) _printf_(3, 4);

/* Put "PREFIX: " in front of the message, or of strerror(code) if there is none; the next step stays. Return
 * 'code'. */
int error_prefix(Error *err, int code, const char *format, ...) _printf_(3, 4);

/* Return the message, or strerror(code) if there is none. Borrows from 'err' or from static memory. */
const char *error_text(const Error *err, int code);
