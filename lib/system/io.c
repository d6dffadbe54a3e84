// SPDX-License-Identifier: Apache-2.0
#include "system/io.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "system/signals.h" // a map that is cut off

int io_write_all(int fd, const void *data, size_t n)
{
    const uint8_t *p = data;
    while (n) {
        ssize_t k = write(fd, p, n);
        if (k < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        p += k;
        n -= (size_t)k;
    }
    return 0;
}

ssize_t io_read_full(int fd, void *data, size_t n)
{
    uint8_t *p = data;
    size_t have = 0;
    while (have < n) {
        ssize_t k = read(fd, p + have, n - have);
        if (k == 0)
            break;
        if (k < 0) {
            if (errno == EINTR)
                continue;
            return -1;
        }
        have += (size_t)k;
    }
    return (ssize_t)have;
}

int map_open(struct map *m, const char *path, struct err *e)
{
    *m = (struct map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return err_errno(e, "cannot open '%s'", path);
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st)) {
        rc = err_errno(e, "cannot read '%s'", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = err_set(e, "cannot map '%s': not a regular file", path);
    } else if (st.st_size > 0) {
        void *p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED) {
            rc = err_errno(e, "cannot map '%s'", path);
        } else {
            m->data = p;
            m->known = st.st_uid == geteuid() || faccessat(AT_FDCWD, path, W_OK, AT_EACCESS) == 0;
            m->n = (size_t)st.st_size;
            signals_watch_map(p, m->n, path);
        }
    }
    close(fd);
    return rc;
}

bool map_resident(const struct map *m)
{
    enum { PAGES = 4096, MOST_AWAY = 16 }; // one page of so many may be away
    unsigned char in[PAGES];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), away = 0;
    if (!m->known && m->n)
        return false;
    for (size_t at = 0; at < m->n; at += PAGES * page) {
        size_t n = m->n - at < PAGES * page ? m->n - at : PAGES * page;
        if (mincore((void *)(uintptr_t)(m->data + at), n, in))
            return false;
        for (size_t i = 0; i < (n + page - 1) / page; i++)
            away += !(in[i] & 1);
    }
    return away <= m->n / page / MOST_AWAY;
}

void map_close(struct map *m)
{
    if (m->data) {
        signals_unwatch_map(m->data);
        munmap((void *)(uintptr_t)m->data, m->n);
    }
    *m = (struct map){0};
}
