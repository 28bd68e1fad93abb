// Loads two plugins where each sees the other's symbols: each must call the copy of its own. Runs them at
// the same time, closes them and opens them again.
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

static int call(void *plugin, const char *name, unsigned with) {
    int (*function)(unsigned) = NULL;
    void *symbol = dlsym(plugin, name);
    memcpy(&function, &symbol, sizeof function);
    return function == NULL ? 99 : function(with);
}

static const char *copy(void *plugin) {
    const char *(*function)(void) = NULL;
    void *symbol = dlsym(plugin, "plugin_copy");
    memcpy(&function, &symbol, sizeof function);
    return function == NULL ? NULL : function();
}

int main(int count, char **names) {
    void *plugins[3] = {0};
    if (count != 3)
        return fputs("usage: plugins ONE TWO\n", stderr), 1;
    for (int round = 0; round < 2; round++) {
        for (int i = 1; i < 3; i++) {
            plugins[i] = dlopen(names[i], RTLD_NOW | RTLD_GLOBAL);
            if (plugins[i] == NULL)
                return fprintf(stderr, "%s\n", dlerror()), 1;
            int failed = call(plugins[i], "plugin_run", 10U * (unsigned)i);
            if (failed)
                return fprintf(stderr, "%s: %d\n", names[i], failed), 1;
        }
        if (copy(plugins[1]) == copy(plugins[2]))
            return fputs("both call the same copy\n", stderr), 1;
        for (int i = 1; i < 3; i++) {
            if (call(plugins[i], "plugin_stop", 0) != 0)
                return 1;
            dlclose(plugins[i]);
        }
    }
    puts("survived");
    return 0;
}
