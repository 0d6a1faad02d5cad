noinst_LIBRARIES += base/libbase.a
base_libbase_a_SOURCES = \
	base/memory.h base/memory.c base/table.h base/table.c base/error.h base/error.c base/text.h base/text.c \
	base/bytes.h base/bytes.c base/parse.h base/parse.c base/file.h base/file.c base/clock.h base/clock.c \
	base/log.h base/log.c
