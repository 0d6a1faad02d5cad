# libraft and what makes it safe. Link libraftcore.a, then $(RAFT_LIBS); the log needs libio.a.
EXTRA_DIST += kvstore/raft/core.h kvstore/raft/log.h kvstore/raft/message.h
