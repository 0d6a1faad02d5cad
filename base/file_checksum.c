#include "base/file_checksum.h"

#include <sys/stat.h>

#include "base/bytes.h"
#include "base/file.h"

enum { MAGIC_SIZE = 8, CHUNK = 256 * 1024 /* bytes */ };

/* At both ends of the page, so that a corrupt page does not look like a missing one. */
static const char magic[MAGIC_SIZE] = "fltdsum1";

int file_checksum_page(uint64_t size, uint32_t crc, uint8_t ret[static FILE_CHECKSUM_SIZE]) {
        _cleanup_writer_ Writer w = {};

        write_raw(&w, magic, sizeof(magic));
        write_u64(&w, size);
        write_u32(&w, crc);
        if (w.error < 0)
                return w.error;
        memset(ret, 0, FILE_CHECKSUM_SIZE);
        memcpy(ret, w.bytes, w.size);
        memcpy(ret + FILE_CHECKSUM_SIZE - sizeof(magic), magic, sizeof(magic));
        return 0;
}

int file_checksum_append(int fd, uint64_t size, uint32_t crc) {
        uint8_t page[FILE_CHECKSUM_SIZE];
        int r = file_checksum_page(size, crc, page);

        return r < 0 ? r : pwrite_all(fd, page, sizeof(page), size);
}

static int checksum_of(int fd, uint64_t size, const _Atomic bool *cancelled, uint32_t *ret) {
        _cleanup_free_ uint8_t *chunk = malloc(CHUNK);
        uint32_t crc = 0;

        if (!chunk)
                return -ENOMEM;
        for (uint64_t offset = 0; offset < size;) {
                size_t n = (size_t) MIN((uint64_t) CHUNK, size - offset);

                TRY(cancelled && *cancelled ? -ECANCELED : pread_all(fd, chunk, n, offset));
                crc = crc32c(crc, chunk, n);
                offset += n;
        }
        *ret = crc;
        return 0;
}

int file_checksum_check(int fd, const _Atomic bool *cancelled) {
        uint8_t page[FILE_CHECKSUM_SIZE], right[FILE_CHECKSUM_SIZE];
        struct stat st;
        uint64_t size;
        uint32_t crc;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size < (off_t) sizeof(page))
                return 0;
        size = (uint64_t) st.st_size - sizeof(page);
        TRY(pread_all(fd, page, sizeof(page), size));
        if (memcmp(page, magic, sizeof(magic)) != 0 &&
            memcmp(page + sizeof(page) - sizeof(magic), magic, sizeof(magic)) != 0)
                return 0;

        TRY(checksum_of(fd, size, cancelled, &crc));
        TRY(file_checksum_page(size, crc, right));
        return memcmp(page, right, sizeof(page)) == 0 ? 1 : -EUCLEAN;
}

int file_checksum_read(int fd, uint64_t *ret_size, uint32_t *ret_crc) {
        uint8_t page[FILE_CHECKSUM_SIZE], right[FILE_CHECKSUM_SIZE];
        Reader reader = reader_over(page + sizeof(magic), sizeof(page) - sizeof(magic));
        struct stat st;
        uint64_t size;
        uint32_t crc;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size < (off_t) sizeof(page))
                return -ENODATA;
        TRY(pread_all(fd, page, sizeof(page), (uint64_t) st.st_size - sizeof(page)));
        size = read_u64(&reader);
        crc = read_u32(&reader);
        TRY(file_checksum_page(size, crc, right));
        if (size != (uint64_t) st.st_size - sizeof(page) || memcmp(page, right, sizeof(page)) != 0)
                return -ENODATA;
        *ret_size = size;
        *ret_crc = crc;
        return 0;
}
