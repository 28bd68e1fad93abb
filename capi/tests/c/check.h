// What every test program in C starts with: a check that says where it failed and why.
#ifndef CHECK_H
#define CHECK_H

#include "stepscope.h"
#include <stdio.h>
#include <unistd.h>

// Ends the process at once: it may be a forked child.
#define CHECK(what) \
    do { \
        if (!(what)) { \
            fprintf(stderr, "line %d: %s (%s)\n", __LINE__, #what, stepscope_last_error()); \
            _exit(1); \
        } \
    } while (0)

#endif
