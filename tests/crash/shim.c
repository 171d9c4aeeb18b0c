/* Stands between a process and the C library: counts every call that changes something below a folder, and at the n-th one
 * kills the process before or after it, tears it in two, or lets it fail (with or without its effect).
 *
 * With a log it also writes down how each change is unmade, and keeps what is removed, so that afterwards the disk can be made
 * to look as a power cut would have left it: without what was not synced. Inodes stay what they were.
 *
 * Armed from within the process by shim_arm(); without that it only passes calls on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define PATH 4096
enum { COUNT, BEFORE, AFTER, TORN, FAIL, EFFECT_AND_FAIL };

static pthread_mutex_t one = PTHREAD_MUTEX_INITIALIZER;
static char root[PATH], filter[PATH], grave[PATH];
static long at, count, graves;
static int armed, mode, error_number, sticky, log_fd = -1;
static __thread int inside;

void shim_arm(const char *below, const char *only, long n, int how, int number, int again, int log, const char *keep) {
    snprintf(root, PATH, "%s/", below);
    snprintf(filter, PATH, "%s", only);
    snprintf(grave, PATH, "%s", keep);
    at = n, mode = how, error_number = number, sticky = again, log_fd = log, count = 0, graves = 0, armed = 1;
}
long shim_disarm(void) { armed = 0; return count; }
long shim_count(void) { return count; }

#define REAL(name) ((__typeof__(&name))real(#name))
static void *real(const char *name) { return dlsym(RTLD_NEXT, name); }

static void die(void) { syscall(SYS_kill, getpid(), SIGKILL); for (;;) pause(); }

/* -- which files ---------------------------------------------------------------------------------------------------- */

static int of_fd(int fd, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t k = readlink(link, path, PATH - 1);
    if (k <= 0) return 0;
    path[k] = 0;
    return 1;
}
static int of_name(int dir, const char *name, char *path) {
    char folder[PATH];
    if (!name) return 0;
    if (name[0] == '/') {
        /* /proc/self/fd/N/rest, as our own code spells names below a descriptor */
        int fd, used = 0;
        if (sscanf(name, "/proc/self/fd/%d/%n", &fd, &used) == 1 && used) {
            if (!of_fd(fd, folder)) return 0;
            snprintf(path, PATH, "%.2000s/%.2000s", folder, name + used);
            return 1;
        }
        snprintf(path, PATH, "%s", name);
        return 1;
    }
    if (dir == AT_FDCWD) { if (!getcwd(folder, PATH)) return 0; }
    else if (!of_fd(dir, folder)) return 0;
    snprintf(path, PATH, "%.2000s/%.2000s", folder, name);
    return 1;
}
static int ours(const char *path) {
    return !strncmp(path, root, strlen(root)) && (!filter[0] || strstr(path, filter));
}

/* -- how it is unmade ----------------------------------------------------------------------------------------------- */

struct record {
    uint32_t magic; char kind, op, pad[2];
    uint64_t inode[4];
    int64_t size, offset, atime, atime_ns, mtime, mtime_ns;
    uint32_t mode, path_bytes, other_bytes, data_bytes;
};
static void note(struct record *r, const char *path, const char *other, const void *data, size_t bytes) {
    r->magic = 0x7461b0ac;
    r->path_bytes = strlen(path), r->other_bytes = strlen(other), r->data_bytes = bytes;
    struct iovec parts[] = {{r, sizeof *r}, {(void *)path, r->path_bytes}, {(void *)other, r->other_bytes}, {(void *)data, bytes}};
    if (writev(log_fd, parts, 4) < 0) die();
}
static uint64_t inode_of(const char *path) {
    struct stat s;
    return lstat(path, &s) ? 0 : s.st_ino;
}
static uint64_t parent_of(const char *path) {
    char folder[PATH];
    snprintf(folder, PATH, "%s", path);
    char *slash = strrchr(folder, '/');
    if (!slash) return 0;
    *slash = 0;
    return inode_of(folder);
}
static void attributes(struct record *r, const struct stat *s) {
    r->mode = s->st_mode, r->size = s->st_size;
    r->atime = s->st_atim.tv_sec, r->atime_ns = s->st_atim.tv_nsec;
    r->mtime = s->st_mtim.tv_sec, r->mtime_ns = s->st_mtim.tv_nsec;
}
static void note_data(int fd, int64_t offset, int64_t length) {
    struct stat s;
    struct record r = {.kind = 'D', .op = length == INT64_MAX ? 't' : 'w'}; /* cut, or written over */
    if (fstat(fd, &s) || !S_ISREG(s.st_mode)) return;
    attributes(&r, &s);
    r.inode[0] = s.st_ino;
    if (offset < 0) offset = (fcntl(fd, F_GETFL) & O_APPEND) ? s.st_size : lseek(fd, 0, SEEK_CUR);
    r.offset = offset;
    int64_t old = s.st_size - offset;
    if (old > length) old = length;
    if (old < 0) old = 0;
    char *data = malloc(old + 1);
    char self[64];
    snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
    int reading = open(self, O_RDONLY | O_CLOEXEC);  /* ours may be open for writing only */
    if (reading < 0 || pread(reading, data, old, offset) != old) die();
    close(reading);
    note(&r, "", "", data, old);
    free(data);
}
static void note_name(char op, const char *path, const char *other, const char *kept) {
    struct record r = {.kind = 'M', .op = op};
    r.inode[0] = parent_of(path), r.inode[1] = inode_of(path);
    if (other[0]) r.inode[2] = parent_of(other), r.inode[3] = inode_of(other);
    note(&r, path, other, kept, strlen(kept));
}
static void note_attributes(const char *path, int fd) {
    struct stat s;
    struct record r = {.kind = 'A'};
    if (fd >= 0 ? fstat(fd, &s) : lstat(path, &s)) return;
    attributes(&r, &s);
    r.inode[0] = s.st_ino;
    note(&r, "", "", "", 0);
}
static void note_sync(int fd) {
    struct stat s;
    struct record r = {.kind = 'S'};
    if (fstat(fd, &s)) return;
    r.inode[0] = s.st_ino;
    note(&r, "", "", "", 0);
}
static void note_failure(void) {
    struct record r = {.kind = 'F'};  /* what was noted last did not happen */
    int saved = errno;
    note(&r, "", "", "", 0);
    errno = saved;
}
static const char *grave_of(void) {
    static char path[PATH + 32];
    snprintf(path, sizeof path, "%s/%ld", grave, ++graves);
    return path;
}

/* -- the n-th call -------------------------------------------------------------------------------------------------- */

/* What to do about this call: COUNT to pass it on, else the mode. */
static int reached(void) {
    long n = ++count;
    if (at > 0 && n == at) {
        if (mode == BEFORE) die();
        return mode;
    }
    return at > 0 && n > at && sticky && mode == FAIL ? FAIL : COUNT;
}
#define CALL(type, watched, noting, torn, doing)                                                                         \
    char path[PATH], other[PATH];                                                                                        \
    path[0] = other[0] = 0;                                                                                              \
    if (!armed || inside) return doing;                                                                                  \
    pthread_mutex_lock(&one);                                                                                            \
    inside = 1;                                                                                                          \
    type result = -1;                                                                                                    \
    if (!(watched)) result = doing;                                                                                      \
    else {                                                                                                               \
        int how = reached();                                                                                             \
        if (how == FAIL) errno = error_number;                                                                           \
        else {                                                                                                           \
            if (log_fd >= 0) { noting; }                                                                                 \
            if (how == TORN) { torn; die(); }                                                                            \
            result = doing;                                                                                              \
            if (log_fd >= 0 && result < 0) note_failure();                                                               \
            if (how == AFTER) die();                                                                                     \
            if (how == EFFECT_AND_FAIL) { result = -1; errno = error_number; }                                           \
        }                                                                                                                \
    }                                                                                                                    \
    int saved = errno;                                                                                                   \
    inside = 0;                                                                                                          \
    pthread_mutex_unlock(&one);                                                                                          \
    errno = saved;                                                                                                       \
    return result;
#define FD(fd) (of_fd(fd, path) && ours(path))
#define NAME(dir, name) (of_name(dir, name, path) && ours(path))
#define NAMES(a, from, b, to) (of_name(a, from, path) && of_name(b, to, other) && (ours(path) || ours(other)))

/* -- content -------------------------------------------------------------------------------------------------------- */

ssize_t write(int fd, const void *p, size_t n) {
    CALL(ssize_t, FD(fd), note_data(fd, -1, n), REAL(write)(fd, p, n / 2), REAL(write)(fd, p, n))
}
ssize_t pwrite64(int fd, const void *p, size_t n, off64_t o) {
    CALL(ssize_t, FD(fd), note_data(fd, o, n), REAL(pwrite64)(fd, p, n / 2, o), REAL(pwrite64)(fd, p, n, o))
}
ssize_t pwrite(int fd, const void *p, size_t n, off_t o) { return pwrite64(fd, p, n, o); }
int ftruncate64(int fd, off64_t size) {
    CALL(int, FD(fd), note_data(fd, size, INT64_MAX), , REAL(ftruncate64)(fd, size))
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int fsync(int fd) { CALL(int, FD(fd), note_sync(fd), , REAL(fsync)(fd)) }
int fdatasync(int fd) { CALL(int, FD(fd), note_sync(fd), , REAL(fdatasync)(fd)) }

/* -- attributes ----------------------------------------------------------------------------------------------------- */

int fchmod(int fd, mode_t m) { CALL(int, FD(fd), note_attributes("", fd), , REAL(fchmod)(fd, m)) }
int fchmodat(int d, const char *name, mode_t m, int f) {
    CALL(int, NAME(d, name), note_attributes(path, -1), , REAL(fchmodat)(d, name, m, f))
}
int chmod(const char *name, mode_t m) { return fchmodat(AT_FDCWD, name, m, 0); }
int futimens(int fd, const struct timespec t[2]) { CALL(int, FD(fd), note_attributes("", fd), , REAL(futimens)(fd, t)) }
int utimensat(int d, const char *name, const struct timespec t[2], int f) {
    CALL(int, NAME(d, name), note_attributes(path, -1), , REAL(utimensat)(d, name, t, f))
}

/* -- names ---------------------------------------------------------------------------------------------------------- */

static void note_rename(const char *path, const char *other, unsigned flags) {
    struct stat s;
    if (flags & 2) note_name('x', path, other, "");
    else if (flags || lstat(other, &s) || S_ISDIR(s.st_mode)) note_name('r', path, other, "");
    else {
        /* what a rename replaces stays alive, under a second name outside */
        const char *kept = grave_of();
        if (syscall(SYS_linkat, AT_FDCWD, other, AT_FDCWD, kept, 0)) die();
        note_name('r', path, other, kept);
    }
}
static int renaming(int a, const char *from, int b, const char *to, unsigned flags) {
    return syscall(SYS_renameat2, a, from, b, to, flags);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) {
    CALL(int, NAMES(a, from, b, to),
         note_rename(path, other, flags), ,
         renaming(a, from, b, to, flags))
}
int renameat(int a, const char *from, int b, const char *to) { return renameat2(a, from, b, to, 0); }
int rename(const char *from, const char *to) { return renameat2(AT_FDCWD, from, AT_FDCWD, to, 0); }

static int removing(int d, const char *name, int flags, const char *path) {
    struct stat s;
    if (log_fd < 0 || !ours(path) || lstat(path, &s)) return syscall(SYS_unlinkat, d, name, flags);
    if (!(flags & AT_REMOVEDIR) && s.st_nlink > 1) return syscall(SYS_unlinkat, d, name, flags);
    if (flags & AT_REMOVEDIR) return syscall(SYS_unlinkat, d, name, flags);
    return syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, grave_of(), 0);
}
static void note_removal(const char *path, int flags) {
    struct stat s;
    if (lstat(path, &s)) return;
    struct record r = {.kind = 'M', .op = flags & AT_REMOVEDIR ? 'd' : s.st_nlink > 1 ? 'h' : 'g'};
    attributes(&r, &s);
    r.inode[0] = parent_of(path), r.inode[1] = s.st_ino;
    char kept[PATH + 32];
    snprintf(kept, sizeof kept, "%s/%ld", grave, graves + 1);
    note(&r, path, kept, "", 0);
}
int unlinkat(int d, const char *name, int flags) {
    CALL(int, NAME(d, name), note_removal(path, flags), , removing(d, name, flags, path))
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int mkdirat(int d, const char *name, mode_t m) {
    CALL(int, NAME(d, name), note_name('c', path, "", ""), , syscall(SYS_mkdirat, d, name, m))
}
int mkdir(const char *name, mode_t m) { return mkdirat(AT_FDCWD, name, m); }
int linkat(int a, const char *from, int b, const char *to, int f) {
    CALL(int, NAMES(a, from, b, to), note_name('l', other, path, ""), , syscall(SYS_linkat, a, from, b, to, f))
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlinkat(const char *text, int d, const char *name) {
    CALL(int, NAME(d, name), note_name('c', path, "", ""), , syscall(SYS_symlinkat, text, d, name))
}
int symlink(const char *text, const char *name) { return symlinkat(text, AT_FDCWD, name); }

static int opening(int d, const char *name, int flags, mode_t m) { return syscall(SYS_openat, d, name, flags | O_LARGEFILE, m); }
static int changes_by_opening(int d, const char *name, int flags, char *path) {
    struct stat s;
    if (!(flags & (O_CREAT | O_TRUNC)) || (flags & O_TMPFILE) == O_TMPFILE || !of_name(d, name, path) || !ours(path)) return 0;
    if (stat(path, &s)) return flags & O_CREAT;
    return (flags & O_TRUNC) && s.st_size > 0;
}
static void note_opening(const char *path) {
    struct stat s;
    if (stat(path, &s)) { note_name('c', path, "", ""); return; }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) { note_data(fd, 0, INT64_MAX); close(fd); }
}
#define MODE(flags) va_list rest; va_start(rest, flags); mode_t m = va_arg(rest, mode_t); va_end(rest)
int openat64(int d, const char *name, int flags, ...) {
    MODE(flags);
    CALL(int, changes_by_opening(d, name, flags, path), note_opening(path), , opening(d, name, flags, m))
}
int openat(int d, const char *name, int flags, ...) { MODE(flags); return openat64(d, name, flags, m); }
int open64(const char *name, int flags, ...) { MODE(flags); return openat64(AT_FDCWD, name, flags, m); }
int open(const char *name, int flags, ...) { MODE(flags); return openat64(AT_FDCWD, name, flags, m); }
