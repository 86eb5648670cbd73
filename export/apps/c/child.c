#include "child.h"

#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fail.h"
#include "file.h"

static void work_and_exit(Work *work, const void *task, int descriptor) {
    FILE *answer = fdopen(descriptor, "w");
    if (!answer) fail("no pipe between processes (%s)", strerror(errno));
    work(task, answer);
    exit(fclose(answer) ? 1 : 0);
}

static char *read_all(int descriptor) {
    char *text, block[4096];
    size_t size;
    FILE *whole = open_memstream(&text, &size);
    for (ssize_t count; (count = read(descriptor, block, sizeof block)) > 0 || (count < 0 && errno == EINTR);)
        if (count > 0) fwrite(block, 1, (size_t)count, whole);
    if (fclose(whole)) fail("no memory for the figures of a process");
    return text;
}

char *run_child(Work *work, const void *task) {
    int ends[2], status;
    fflush(NULL);
    if (pipe(ends)) fail("no pipe between processes (%s)", strerror(errno));
    pid_t child = fork();
    if (child < 0) fail("no new process (%s)", strerror(errno));
    if (!child) {
        close(ends[0]);
        work_and_exit(work, task, ends[1]);
    }
    close(ends[1]);
    char *text = read_all(ends[0]);
    close(ends[0]);
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) fail("a process was lost (%s)", strerror(errno));
    if (WIFSIGNALED(status))
        fail("the measuring process was killed by signal %d%s", WTERMSIG(status),
             WTERMSIG(status) == 9 ? " (out of memory?)" : "");
    /* The process has said why. */
    if (WEXITSTATUS(status)) exit(1);
    return text;
}
