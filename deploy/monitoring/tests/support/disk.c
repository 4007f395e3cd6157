/* Faults of a disk and of the system, for the program that loads this library first. The file that DISK_FAULT names says
 * which; it is looked at by every call, so that a test can change it while the program runs:
 *   (nothing)    all works
 *   slow MS      each sync takes so many milliseconds longer
 *   prepare MS   each sync of the thread that prepares segments does
 *   fail         each sync fails with EIO
 *   hang         no sync ends, until the file says otherwise
 *   stuck        a sync of the thread that compacts does not end, until the file says otherwise
 *   create       the thread that compacts can create no file: EIO
 *   accept PORT  nobody who connects to this port is accepted: EMFILE */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int open_really(const char *path, int flags, mode_t mode) {
    static int (*real)(const char *, int, ...);
    if (!real) real = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64");
    return real(path, flags, mode);
}

static void fault(char *text, size_t bytes) {
    const char *path = getenv("DISK_FAULT");
    memset(text, 0, bytes);
    int file = path ? open_really(path, O_RDONLY | O_CLOEXEC, 0) : -1;
    if (file < 0) return;
    ssize_t found = read(file, text, bytes - 1);
    if (found < 0) text[0] = 0;
    close(file);
}

static int begins_with(const char *text, const char *word) { return strncmp(text, word, strlen(word)) == 0; }

static int is_thread(const char *name) {
    char thread[17] = {0};
    prctl(PR_GET_NAME, thread);
    return strcmp(thread, name) == 0;
}

static int compacts(void) { return is_thread("kvs-compact"); }

static void rest_ms(long ms) {
    struct timespec rest = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&rest, &rest) != 0) {}
}

int fdatasync(int file) {
    static int (*real)(int);
    char text[64];
    if (!real) real = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    fault(text, sizeof text);
    if (begins_with(text, "fail")) {
        errno = EIO;
        return -1;
    }
    if (begins_with(text, "slow ")) rest_ms(atol(text + 5));
    if (begins_with(text, "prepare ") && is_thread("kvs-segments")) rest_ms(atol(text + 8));
    while (begins_with(text, "hang") || (begins_with(text, "stuck") && compacts())) {
        rest_ms(50);
        fault(text, sizeof text);
    }
    return real(file);
}

int open64(const char *path, int flags, ...) {
    va_list list;
    va_start(list, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0;
    va_end(list);
    if (flags & O_CREAT && compacts()) {
        char text[64];
        fault(text, sizeof text);
        if (begins_with(text, "create")) {
            errno = EIO;
            return -1;
        }
    }
    return open_really(path, flags, mode);
}

int accept4(int socket, struct sockaddr *address, socklen_t *bytes, int flags) {
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    char text[64];
    struct sockaddr_in own = {0};
    socklen_t own_bytes = sizeof own;
    if (!real) real = (int (*)(int, struct sockaddr *, socklen_t *, int))dlsym(RTLD_NEXT, "accept4");
    fault(text, sizeof text);
    if (begins_with(text, "accept ") && getsockname(socket, (struct sockaddr *)&own, &own_bytes) == 0 &&
        ntohs(own.sin_port) == atoi(text + 7)) {
        errno = EMFILE;
        return -1;
    }
    return real(socket, address, bytes, flags);
}
