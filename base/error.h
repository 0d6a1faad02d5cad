/* Errors: a negative errno for the program, a sentence for the person.
 *
 * Functions that can fail with more to say than an errno take an 'Error *err' (may be NULL) as last argument.
 * The first to notice sets the sentence; each caller puts in front only what it alone knows: "web.service:
 * line 7: ...". */
#pragma once

#include "base/memory.h"

enum { ERROR_MESSAGE_MAX = 512 };

typedef struct Error {
        int code;                        /* negative errno, 0: not set */
        char message[ERROR_MESSAGE_MAX]; /* one sentence, without control characters: '?' stands for each; cut
                                            when longer */
} Error;

/* Sets the sentence; returns 'code' (negative errno). */
int error_set(Error *err, int code, const char *format, ...) _printf_(3, 4);

/* Puts "PREFIX: " before the sentence that is there (or before strerror(code) if there is none); returns
 * 'code'. */
int error_prefix(Error *err, int code, const char *format, ...) _printf_(3, 4);

/* The sentence, or strerror(code) if nobody wrote one. Borrows from 'err' or from static memory. */
const char *error_text(const Error *err, int code);
