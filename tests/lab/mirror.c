/* Mirror a folder through FUSE, as one host of the lab sees its shared storage, and
 * bear witness of every change.
 *
 *     mirror SOURCE LOG FAULT [FUSE OPTION...] MOUNTPOINT
 *
 * LOG gets two lines of text for each change, one before it begins and one after it
 * has ended, so that neither a kill nor a halt between the two hides a write:
 *
 *     B <number> <monotonic ns> <pid> <verb> <inode> <offset> <length> <path>
 *     E <number> <monotonic ns> <result>          bytes or 0; negative: an errno
 *
 * A path has its new one behind a tab when there are two; its own tabs and newlines
 * are logged as '?'. Numbers begin at 1 whenever the mirror starts, which it logs as
 *
 *     S <monotonic ns>
 *
 * The lab adds when it has cut a host's power, and nothing of it is left:
 *
 *     D <monotonic ns>
 *
 * FAULT is a file of 4096 bytes that the lab writes and we map, so that a fault
 * begins and ends with the next request:
 *
 *     0  '-' none, 's' no space, 'e' I/O error, 'r' read-only, 'h' hang
 *     1  the pattern, fnmatch(3), of the paths it is for; NUL-terminated; "": all
 *
 * Names and attributes are never cached, data is read again when a file has changed:
 * hosts see each other's changes at once. A caller's O_DIRECT ends here, as in bindfs:
 * all hosts share the machine's page cache, and a power cut of the lab spares it.
 * Source: fuse(4), libfuse's fuse.h.
 */
#define FUSE_USE_VERSION 35
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <fuse.h>
#include <limits.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

enum { FAULT_BYTES = 4096, LINE_BYTES = 2 * PATH_MAX + 256, WRITE_BYTES = 1 << 20 };
enum { HANG_POLL_NS = 20 * 1000 * 1000, NO_OFFSET = -1 };

/* What a request does: each fault hits some kinds and spares the others. */
enum kind { LOOK, READ, CHANGE, GROW };

struct handle {
    int descriptor;
    uint64_t inode;
    char path[];
};

static int source;
static int witness;
static const char *fault;
static atomic_ullong last_number;

/* ---- faults ---------------------------------------------------------------- */

static int is_hit(char now, const char *path)
{
    const char *pattern = fault + 1;
    return *(volatile const char *)fault == now &&
           (*pattern == '\0' || fnmatch(pattern, path + 1, 0) == 0);
}

/* Return the errno, negative, with which a request on a path fails now, or 0. */
static int refusal(enum kind kind, const char *path)
{
    const struct timespec pause = {0, HANG_POLL_NS};
    while (is_hit('h', path))
        nanosleep(&pause, NULL);
    if (kind != LOOK && is_hit('e', path))
        return -EIO;
    if ((kind == CHANGE || kind == GROW) && is_hit('r', path))
        return -EROFS;
    if (kind == GROW && is_hit('s', path))
        return -ENOSPC;
    return 0;
}

/* Tell whether a write takes blocks that the file does not have yet. */
static enum kind kind_of_write(int descriptor, off_t offset, size_t length)
{
    if (*(volatile const char *)fault != 's')
        return CHANGE;
    off_t hole = lseek(descriptor, offset, SEEK_HOLE);
    return hole >= 0 && hole >= offset + (off_t)length ? CHANGE : GROW;
}

/* ---- the witness ----------------------------------------------------------- */

static long long now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static void log_line(char *line, int length)
{
    line[length++] = '\n';
    /* A change that cannot be witnessed must not happen. */
    if (write(witness, line, length) != length)
        abort();
}

static char *logged_path(char *at, const char *path)
{
    for (; *path; path++)
        *at++ = *path == '\n' || *path == '\t' ? '?' : *path;
    return at;
}

static unsigned long long begin(const char *verb, uint64_t inode, long long offset,
                                long long length, const char *path, const char *other)
{
    unsigned long long number = atomic_fetch_add(&last_number, 1) + 1;
    char line[LINE_BYTES];
    char *at = line + sprintf(line, "B %llu %lld %d %s %llu %lld %lld ", number,
                              now_ns(), (int)fuse_get_context()->pid, verb,
                              (unsigned long long)inode, offset, length);
    at = logged_path(at, path);
    if (other) {
        *at++ = '\t';
        at = logged_path(at, other);
    }
    log_line(line, at - line);
    return number;
}

static int end(unsigned long long number, long long result)
{
    char line[96];
    log_line(line, sprintf(line, "E %llu %lld %lld", number, now_ns(), result));
    return result;
}

/* ---- names ----------------------------------------------------------------- */

static const char *relative(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static struct handle *handle_of(const struct fuse_file_info *info)
{
    return (struct handle *)(uintptr_t)info->fh;
}

static uint64_t inode_of(const char *path)
{
    struct stat facts;
    int failed = fstatat(source, relative(path), &facts, AT_SYMLINK_NOFOLLOW);
    return failed ? 0 : facts.st_ino;
}

static int status(int result)
{
    return result < 0 ? -errno : result;
}

/* Give what was made to the caller; a set-group-id folder has given its group. */
static int give(const char *path, int result)
{
    struct fuse_context *caller = fuse_get_context();
    struct stat facts;
    if (result < 0)
        return -errno;
    if (fstatat(source, relative(path), &facts, AT_SYMLINK_NOFOLLOW) < 0)
        return -errno;
    gid_t group = facts.st_gid == getegid() ? caller->gid : (gid_t)-1;
    return status(fchownat(source, relative(path), caller->uid, group,
                           AT_SYMLINK_NOFOLLOW));
}

static int keep(struct fuse_file_info *info, int descriptor, const char *path)
{
    struct stat facts;
    if (descriptor < 0)
        return -errno;
    struct handle *made = malloc(sizeof *made + strlen(path) + 1);
    if (!made || fstat(descriptor, &facts) < 0) {
        free(made);
        close(descriptor);
        return -EIO;
    }
    made->descriptor = descriptor;
    made->inode = facts.st_ino;
    strcpy(made->path, path);
    info->fh = (uintptr_t)made;
    return 0;
}

/* ---- looking --------------------------------------------------------------- */

static int mirror_getattr(const char *path, struct stat *facts,
                          struct fuse_file_info *info)
{
    int refused = refusal(LOOK, info ? handle_of(info)->path : path);
    if (refused)
        return refused;
    if (info)
        return status(fstat(handle_of(info)->descriptor, facts));
    return status(fstatat(source, relative(path), facts, AT_SYMLINK_NOFOLLOW));
}

static int mirror_readlink(const char *path, char *target, size_t size)
{
    int refused = refusal(LOOK, path);
    ssize_t length = refused ? -1 : readlinkat(source, relative(path), target, size - 1);
    if (length < 0)
        return refused ? refused : -errno;
    target[length] = '\0';
    return 0;
}

static int mirror_opendir(const char *path, struct fuse_file_info *info)
{
    int refused = refusal(LOOK, path);
    if (refused)
        return refused;
    return keep(info, openat(source, relative(path), O_RDONLY | O_DIRECTORY), path);
}

static int mirror_readdir(const char *path, void *list, fuse_fill_dir_t fill,
                          off_t offset, struct fuse_file_info *info,
                          enum fuse_readdir_flags flags)
{
    (void)path, (void)offset, (void)flags;
    int refused = refusal(LOOK, handle_of(info)->path);
    if (refused)
        return refused;
    int again = openat(handle_of(info)->descriptor, ".", O_RDONLY | O_DIRECTORY);
    DIR *folder = again < 0 ? NULL : fdopendir(again);
    if (!folder)
        return -errno;
    for (struct dirent *entry; (entry = readdir(folder));) {
        struct stat facts = {.st_ino = entry->d_ino, .st_mode = entry->d_type << 12};
        if (fill(list, entry->d_name, &facts, 0, 0))
            break;
    }
    closedir(folder);
    return 0;
}

static int mirror_statfs(const char *path, struct statvfs *facts)
{
    int refused = refusal(LOOK, path);
    if (refused)
        return refused;
    if (fstatvfs(source, facts) < 0)
        return -errno;
    if (is_hit('s', path))
        facts->f_bfree = facts->f_bavail = 0;
    if (is_hit('r', path))
        facts->f_flag |= ST_RDONLY;
    return 0;
}

/* ---- data ------------------------------------------------------------------ */

static int mirror_open(const char *path, struct fuse_file_info *info)
{
    int is_writing = (info->flags & O_ACCMODE) != O_RDONLY || info->flags & O_TRUNC;
    int refused = refusal(is_writing && is_hit('r', path) ? CHANGE : LOOK, path);
    if (refused)
        return refused;
    /* The witness logs true offsets and every truncation: both are made by us. */
    int flags = info->flags & ~(O_DIRECT | O_APPEND | O_TRUNC | O_CREAT | O_EXCL);
    int result = keep(info, openat(source, relative(path), flags), path);
    if (result == 0 && info->flags & O_TRUNC) {
        struct handle *file = handle_of(info);
        unsigned long long number = begin("truncate", file->inode, NO_OFFSET, 0, path, 0);
        result = end(number, status(ftruncate(file->descriptor, 0)));
    }
    return result;
}

static int mirror_create(const char *path, mode_t mode, struct fuse_file_info *info)
{
    int refused = refusal(GROW, path);
    if (refused)
        return refused;
    int flags = (info->flags & O_ACCMODE) | O_CREAT | O_EXCL;
    unsigned long long number = begin("create", 0, NO_OFFSET, 0, path, 0);
    int descriptor = openat(source, relative(path), flags, mode);
    int result = descriptor < 0 ? -errno : give(path, 0);
    end(number, result);
    if (result == -EEXIST && !(info->flags & O_EXCL))
        return mirror_open(path, info); /* another host was faster */
    if (result < 0) {
        if (descriptor >= 0)
            close(descriptor);
        return result;
    }
    return keep(info, descriptor, path);
}

static int mirror_read(const char *path, char *data, size_t size, off_t offset,
                       struct fuse_file_info *info)
{
    (void)path;
    int refused = refusal(READ, handle_of(info)->path);
    if (refused)
        return refused;
    return status(pread(handle_of(info)->descriptor, data, size, offset));
}

static int mirror_write(const char *path, const char *data, size_t size, off_t offset,
                        struct fuse_file_info *info)
{
    (void)path;
    struct handle *file = handle_of(info);
    int refused = refusal(kind_of_write(file->descriptor, offset, size), file->path);
    if (refused)
        return refused;
    unsigned long long number = begin("write", file->inode, offset, size, file->path, 0);
    return end(number, status(pwrite(file->descriptor, data, size, offset)));
}

static int mirror_truncate(const char *path, off_t size, struct fuse_file_info *info)
{
    int refused = refusal(CHANGE, info ? handle_of(info)->path : path);
    if (refused)
        return refused;
    int descriptor = info ? handle_of(info)->descriptor
                          : openat(source, relative(path), O_WRONLY | O_NOFOLLOW);
    if (descriptor < 0)
        return -errno;
    const char *known = info ? handle_of(info)->path : path;
    uint64_t inode = info ? handle_of(info)->inode : inode_of(path);
    unsigned long long number = begin("truncate", inode, NO_OFFSET, size, known, 0);
    int result = end(number, status(ftruncate(descriptor, size)));
    if (!info)
        close(descriptor);
    return result;
}

static int mirror_fallocate(const char *path, int mode, off_t offset, off_t length,
                            struct fuse_file_info *info)
{
    (void)path;
    struct handle *file = handle_of(info);
    int refused = refusal(mode & FALLOC_FL_PUNCH_HOLE ? CHANGE : GROW, file->path);
    if (refused)
        return refused;
    unsigned long long number =
        begin("fallocate", file->inode, offset, length, file->path, 0);
    return end(number, status(fallocate(file->descriptor, mode, offset, length)));
}

static off_t mirror_lseek(const char *path, off_t offset, int whence,
                          struct fuse_file_info *info)
{
    (void)path;
    int refused = refusal(READ, handle_of(info)->path);
    off_t found = refused ? -1 : lseek(handle_of(info)->descriptor, offset, whence);
    return refused ? refused : found < 0 ? -errno : found;
}

static int mirror_fsync(const char *path, int is_data, struct fuse_file_info *info)
{
    (void)path;
    int refused = refusal(READ, handle_of(info)->path);
    if (refused)
        return refused;
    int descriptor = handle_of(info)->descriptor;
    return status(is_data ? fdatasync(descriptor) : fsync(descriptor));
}

static int mirror_release(const char *path, struct fuse_file_info *info)
{
    (void)path;
    close(handle_of(info)->descriptor);
    free(handle_of(info));
    return 0;
}

/* ---- names and attributes -------------------------------------------------- */

/* Refuse, or log, make and log again: `made` is worked out between the two lines. */
#define LOGGED(kind, verb, inode, path, other, made)                                  \
    int refused = refusal(kind, path);                                                \
    if (refused)                                                                      \
        return refused;                                                               \
    unsigned long long number = begin(verb, inode, NO_OFFSET, 0, path, other);        \
    return end(number, made)

static int mirror_mknod(const char *path, mode_t mode, dev_t device)
{
    LOGGED(GROW, "mknod", 0, path, NULL,
           give(path, mknodat(source, relative(path), mode, device)));
}

static int mirror_mkdir(const char *path, mode_t mode)
{
    LOGGED(GROW, "mkdir", 0, path, NULL,
           give(path, mkdirat(source, relative(path), mode)));
}

static int mirror_symlink(const char *target, const char *path)
{
    LOGGED(GROW, "symlink", 0, path, NULL,
           give(path, symlinkat(target, source, relative(path))));
}

static int mirror_unlink(const char *path)
{
    LOGGED(CHANGE, "unlink", inode_of(path), path, NULL,
           status(unlinkat(source, relative(path), 0)));
}

static int mirror_rmdir(const char *path)
{
    LOGGED(CHANGE, "rmdir", inode_of(path), path, NULL,
           status(unlinkat(source, relative(path), AT_REMOVEDIR)));
}

static int mirror_rename(const char *path, const char *other, unsigned int flags)
{
    LOGGED(CHANGE, "rename", inode_of(path), path, other,
           status(renameat2(source, relative(path), source, relative(other), flags)));
}

static int mirror_link(const char *path, const char *other)
{
    LOGGED(CHANGE, "link", inode_of(path), path, other,
           status(linkat(source, relative(path), source, relative(other), 0)));
}

static int mirror_chmod(const char *path, mode_t mode, struct fuse_file_info *info)
{
    if (!path)
        path = handle_of(info)->path;
    LOGGED(CHANGE, "chmod", inode_of(path), path, NULL,
           status(fchmodat(source, relative(path), mode, 0)));
}

static int mirror_chown(const char *path, uid_t user, gid_t group,
                        struct fuse_file_info *info)
{
    if (!path)
        path = handle_of(info)->path;
    LOGGED(CHANGE, "chown", inode_of(path), path, NULL,
           status(fchownat(source, relative(path), user, group, AT_SYMLINK_NOFOLLOW)));
}

static int mirror_utimens(const char *path, const struct timespec times[2],
                          struct fuse_file_info *info)
{
    if (!path)
        path = handle_of(info)->path;
    int refused = refusal(CHANGE, path);
    if (refused)
        return refused;
    return status(utimensat(source, relative(path), times, AT_SYMLINK_NOFOLLOW));
}

static void *mirror_init(struct fuse_conn_info *connection, struct fuse_config *options)
{
    connection->max_write = WRITE_BYTES;
    options->use_ino = 1;
    options->hard_remove = 1;
    options->nullpath_ok = 1;
    options->entry_timeout = options->attr_timeout = options->negative_timeout = 0;
    return NULL;
}

static const struct fuse_operations operations = {
    .init = mirror_init,
    .getattr = mirror_getattr,
    .readlink = mirror_readlink,
    .opendir = mirror_opendir,
    .readdir = mirror_readdir,
    .releasedir = mirror_release,
    .fsyncdir = mirror_fsync,
    .statfs = mirror_statfs,
    .open = mirror_open,
    .create = mirror_create,
    .read = mirror_read,
    .write = mirror_write,
    .truncate = mirror_truncate,
    .fallocate = mirror_fallocate,
    .lseek = mirror_lseek,
    .fsync = mirror_fsync,
    .release = mirror_release,
    .mknod = mirror_mknod,
    .mkdir = mirror_mkdir,
    .symlink = mirror_symlink,
    .unlink = mirror_unlink,
    .rmdir = mirror_rmdir,
    .rename = mirror_rename,
    .link = mirror_link,
    .chmod = mirror_chmod,
    .chown = mirror_chown,
    .utimens = mirror_utimens,
};

int main(int count, char **words)
{
    if (count < 5) {
        fprintf(stderr, "usage: mirror SOURCE LOG FAULT [OPTION...] MOUNTPOINT\n");
        return 2;
    }
    source = open(words[1], O_PATH | O_DIRECTORY | O_CLOEXEC);
    witness = open(words[2], O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    int control = open(words[3], O_RDONLY | O_CLOEXEC);
    if (source < 0 || witness < 0 || control < 0) {
        perror("mirror: cannot open source, log or fault");
        return 1;
    }
    fault = mmap(NULL, FAULT_BYTES, PROT_READ, MAP_SHARED, control, 0);
    if (fault == MAP_FAILED) {
        perror("mirror: cannot map the fault");
        return 1;
    }
    char line[64];
    log_line(line, sprintf(line, "S %lld", now_ns()));
    umask(0); /* the kernel has applied the caller's */
    words[3] = words[0];
    return fuse_main(count - 3, words + 3, &operations, NULL);
}
