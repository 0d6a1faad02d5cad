/* xxHash is a part of this file: copies in all files that hash would be a twentieth of the daemon. */
#define XXH_STATIC_LINKING_ONLY
#define XXH_IMPLEMENTATION
/* Packed reads would violate the aliasing rules for integer keys. */
#ifdef __SANITIZE_ADDRESS__
#define XXH_FORCE_MEMORY_ACCESS 3 /* byte by byte: each memcpy would be a call of the sanitizer */
#else
#define XXH_FORCE_MEMORY_ACCESS 0 /* memcpy */
#endif
#include "base/table.h"

unsigned long long table_seed;
