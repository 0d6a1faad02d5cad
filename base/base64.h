/* Base64 (RFC 4648): bytes of any kind in a text. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "base/text.h"

/* Appends 'bytes' in base64; 'for_url': by the alphabet that needs no escape in a URL, and without padding.
 */
void text_append_base64(Text *t, const void *bytes, size_t size, bool for_url);

/* Reads either alphabet, with or without padding; a zero byte follows what comes back, which the caller
 * frees. -EINVAL for all else (blanks, bits behind the end), -ENOMEM. */
int base64_decode(const char *s, size_t size, char **ret, size_t *ret_size);
