/* Commands to the store in the words of a test. */
#pragma once

#include "kvstore/command/command.h"

#define COMMAND(what, path, ...) ((KvCommand) { .op = (what), .key = kv_string(path), __VA_ARGS__ })
#define SET(path, text, ...)     COMMAND(KV_SET, path, .value = kv_string(text), __VA_ARGS__)

/* Members of a command. */
#define TTL(ms)        .has_ttl = true, .ttl_ms = (ms)
#define IF_VALUE(text) .has_prev_value = true, .prev_value = kv_string(text)
