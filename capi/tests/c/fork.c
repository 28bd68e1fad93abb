// A process that forks while threads scrape, probe, make recorders and log: the parent's numbers go on, and
// the child may call everything, end the parent's scope and start one of its own, and never hangs.
#define _GNU_SOURCE
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define CHILDREN 40
static stepscope_scope *scope;
static atomic_int over;

static stepscope_scope *start(void) {
    stepscope_config config = {.size = sizeof config};
    config.listen = "127.0.0.1:0";
    stepscope_scope *made = NULL;
    CHECK(stepscope_start(&config, &made) == STEPSCOPE_OK);
    return made;
}

static void swallow(void *user, const char *data, size_t length) {
    (void)user, (void)data, (void)length;
}

// Holds the aggregator's lock most of the time.
static void *read_all_the_time(void *unused) {
    (void)unused;
    const char *type = NULL;
    while (!over)
        CHECK(stepscope_metrics_write(scope, NULL, &type, swallow, NULL) == STEPSCOPE_OK);
    return NULL;
}

// Takes the locks of names, probes and recorders.
static void *make_and_free(void *unused) {
    (void)unused;
    while (!over) {
        stepscope_recorder *rec = NULL;
        stepscope_series series;
        CHECK(stepscope_recorder_new(scope, "short", NULL, 16, &rec) == STEPSCOPE_OK);
        CHECK(stepscope_intern_series(scope, "short", NULL, &series) == STEPSCOPE_OK);
        CHECK(stepscope_live(scope) == STEPSCOPE_OK && stepscope_ready(scope) == STEPSCOPE_NO);
        stepscope_recorder_free(&rec);
    }
    return NULL;
}

static void log_line(void *user, stepscope_log_level level, const char *line) {
    (void)user, (void)level, (void)line;
}

// Takes the lock of the log.
static void *change_the_log(void *unused) {
    (void)unused;
    while (!over)
        CHECK(stepscope_set_log(log_line, NULL, STEPSCOPE_LOG_INFO) == STEPSCOPE_OK);
    return NULL;
}

static void one_request(stepscope_recorder *rec) {
    const stepscope_series other = {0};
    stepscope_request request = stepscope_arrive(rec, other, 1, stepscope_now());
    stepscope_schedule(rec, &request, stepscope_now(), 0, 0);
    stepscope_step step = stepscope_begin_step(rec, stepscope_now(), (stepscope_shape){0, 0, 1});
    stepscope_end_step(rec, &step, stepscope_now());
    stepscope_token(rec, &step, &request, 1);
    stepscope_finish(rec, &request, stepscope_now(), STEPSCOPE_STOP, 0);
}

static double requests(stepscope_scope *of) {
    stepscope_snapshot *snapshot = NULL;
    double total = -1;
    CHECK(stepscope_snapshot_take(of, &snapshot) == STEPSCOPE_OK);
    stepscope_snapshot_sum(snapshot, "llm_requests_total", NULL, 0, &total);
    stepscope_snapshot_free(&snapshot);
    return total;
}

// Whatever the parent has, from the child.
static void child(stepscope_recorder *rec) {
    prctl(PR_SET_PDEATHSIG, SIGKILL); // a child that hangs must not keep the output open
    for (int i = 0; i < 2000; i++) // more than a ring holds, and nobody drains it
        one_request(rec);
    stepscope_series series;
    stepscope_recorder *more = NULL;
    CHECK(stepscope_intern_series(scope, "child", NULL, &series) == STEPSCOPE_OK);
    CHECK(stepscope_recorder_new(scope, "child", NULL, 0, &more) == STEPSCOPE_OK);
    CHECK(requests(scope) == 0); // a shell, whatever the parent has counted
    const char *type = NULL;
    CHECK(stepscope_health_write(scope, swallow, NULL) == STEPSCOPE_OK);
    CHECK(stepscope_metrics_write(scope, NULL, &type, swallow, NULL) == STEPSCOPE_OK && type != NULL);
    CHECK(stepscope_set_log(log_line, NULL, STEPSCOPE_LOG_INFO) == STEPSCOPE_OK);
    CHECK(stepscope_set_log(NULL, NULL, 0) == STEPSCOPE_OK);
    CHECK(stepscope_watch_device(scope, "0", "GPU-none", "/nowhere/libnvml.so") == STEPSCOPE_ERROR_UNAVAILABLE);
    stepscope_live(scope); // whatever it says: it must come back
    CHECK(stepscope_mark_draining(scope) == STEPSCOPE_OK && stepscope_ready(scope) == STEPSCOPE_NO);
    stepscope_recorder_free(&more);
    stepscope_recorder_free(&rec);
    CHECK(stepscope_shutdown(scope, 1000) == STEPSCOPE_OK);
    stepscope_free(&scope);

    stepscope_scope *own = start();
    CHECK(stepscope_recorder_new(own, "own", NULL, 0, &rec) == STEPSCOPE_OK);
    one_request(rec);
    CHECK(requests(own) == 1);
    stepscope_recorder_free(&rec);
    CHECK(stepscope_shutdown(own, 0) == STEPSCOPE_OK);
    stepscope_free(&own);
    _exit(0);
}

// Waits at most twenty seconds; a child that hangs is killed and is a failure.
static void wait_for(pid_t pid) {
    const struct timespec moment = {0, 5000000};
    int status = 0;
    for (int i = 0; i < 4000; i++) {
        if (waitpid(pid, &status, WNOHANG) == pid) {
            CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
            return;
        }
        nanosleep(&moment, NULL);
    }
    fprintf(stderr, "a child hangs\n");
    exit(1);
}

int main(void) {
    alarm(60);
    scope = start();
    CHECK(stepscope_set_log(log_line, NULL, STEPSCOPE_LOG_INFO) == STEPSCOPE_OK);
    stepscope_recorder *rec = NULL;
    pthread_t reader, maker, logger;
    CHECK(stepscope_recorder_new(scope, "engine", NULL, 0, &rec) == STEPSCOPE_OK);
    CHECK(pthread_create(&reader, NULL, read_all_the_time, NULL) == 0);
    CHECK(pthread_create(&maker, NULL, make_and_free, NULL) == 0);
    CHECK(pthread_create(&logger, NULL, change_the_log, NULL) == 0);
    for (int i = 0; i < CHILDREN; i++) {
        one_request(rec);
        pid_t pid = fork();
        CHECK(pid >= 0);
        if (pid == 0)
            child(rec);
        wait_for(pid);
        one_request(rec);
    }
    over = 1;
    pthread_join(reader, NULL);
    pthread_join(maker, NULL);
    pthread_join(logger, NULL);
    CHECK(requests(scope) == 2 * CHILDREN);
    stepscope_recorder_free(&rec);
    CHECK(stepscope_shutdown(scope, 0) == STEPSCOPE_OK);
    stepscope_free(&scope);
    puts("survived");
    return 0;
}
