// Loads the library by hand, uses it, closes it, and does so again: it stays loaded, on purpose.
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

int main(int argc, char **argv) {
    uint64_t (*before)(void) = NULL;
    for (int i = 0; i < 3; i++) {
        void *library = dlopen(argc > 1 ? argv[1] : "libstepscope.so.0", RTLD_NOW | RTLD_LOCAL);
        if (library == NULL)
            return fprintf(stderr, "%s\n", dlerror()), 1;
        int (*start)(const void *, void **);
        void (*end)(void **);
        uint64_t (*now)(void);
        void *found[3] = {dlsym(library, "stepscope_start"), dlsym(library, "stepscope_free"),
                          dlsym(library, "stepscope_now")};
        memcpy(&start, &found[0], sizeof start);
        memcpy(&end, &found[1], sizeof end);
        memcpy(&now, &found[2], sizeof now);
        void *scope = NULL;
        start(NULL, &scope); // its port may be taken: then there is none to free
        end(&scope);
        if (i > 0 && now != before)
            return fputs("it was loaded a second time\n", stderr), 1;
        before = now;
        dlclose(library);
        if (now() == 0) // still there
            return 1;
    }
    puts("survived");
    return 0;
}
