/* A complete result of a command as bytes, for a host that has no tree to read it from. Pure. */
#pragma once

#include "base/bytes.h"
#include "kvstore/command/arena.h"
#include "kvstore/command/command.h"

void result_frame_write(const KvResult *result, Writer *w);
/* Read one, which borrows from the bytes and from the arena. 0, -EBADMSG, -ENOMEM. */
int result_frame_read(Reader *r, Arena *arena, KvResult *ret);
