// A host that loads two plugins, each with its own copy of the library, and lets both serve at once.
#define _POSIX_C_SOURCE 200809L
#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

typedef struct plugin {
    double (*serve)(uint64_t);
    uint64_t requests;
    double counted;
} plugin;

static void *run(void *arg) {
    plugin *p = arg;
    p->counted = p->serve(p->requests);
    return NULL;
}

int main(int argc, char **argv) {
    plugin plugins[2] = {{NULL, 100, 0}, {NULL, 20000, 0}};
    pthread_t threads[2];
    if (argc != 3)
        return 2;
    for (int i = 0; i < 2; i++) {
        void *library = dlopen(argv[1 + i], RTLD_NOW | RTLD_GLOBAL);
        void *found = library == NULL ? NULL : dlsym(library, "serve");
        if (found == NULL)
            return fprintf(stderr, "%s\n", dlerror()), 1;
        if (dlsym(library, "stepscope_start") != NULL)
            return fputs("the plugin shows its copy to others\n", stderr), 1;
        memcpy(&plugins[i].serve, &found, sizeof found);
    }
    if (plugins[0].serve == plugins[1].serve)
        return fputs("it is one plugin\n", stderr), 1;
    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, run, &plugins[i]);
    for (int i = 0; i < 2; i++) {
        pthread_join(threads[i], NULL);
        if (plugins[i].counted != (double)plugins[i].requests)
            return fprintf(stderr, "plugin %d counted %g\n", i, plugins[i].counted), 1;
    }
    puts("survived");
    return 0;
}
