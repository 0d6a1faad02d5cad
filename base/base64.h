/* Base64 (RFC 4648). */
#pragma once

#include "base/text.h"

/* Append 'bytes' in base64; 'for_url': in the URL-safe alphabet, without padding. */
void text_append_base64(Text *t, const void *bytes, size_t size, bool for_url);

/* Decode either alphabet, with or without padding. The caller frees *ret, which a zero byte terminates.
 * Errors: -ENOMEM; -EINVAL: any other character (spaces included), or unused bits that are not 0. */
int base64_decode(const char *s, size_t size, char **ret, size_t *ret_size);
