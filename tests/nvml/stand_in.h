/* What both stand-ins share: reading the machine that the test describes in environment variables. */
#ifndef STAND_IN_H
#define STAND_IN_H
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

static inline const char *setting(const char *name, const char *otherwise) {
    const char *value = getenv(name);
    return value && *value ? value : otherwise;
}

/* Crash or hang where the test wants it: `crash:count`, `hang:init`. */
static inline void fault(const char *name, const char *where) {
    const char *wanted = setting(name, "");
    const char *colon = strchr(wanted, ':');
    if (!colon || strcmp(colon + 1, where)) return;
    if (!strncmp(wanted, "crash", 5)) {
        /* A bad pointer, as a real driver library would follow one. */
        volatile int *nowhere = NULL;
        *nowhere = 1;
    }
    for (;;) sleep(1000);
}

static inline int gpu_count(void) {
    const char *rows = setting("STAND_IN_GPUS", "");
    int count = *rows != 0;
    for (; *rows; rows++) count += *rows == '\n';
    return count;
}

/* The value of `key` in a GPU's row; 0 where the row has no such key. */
static inline int field(int row, const char *key, char *out, size_t size) {
    const char *at = setting("STAND_IN_GPUS", "");
    for (; row > 0; row--) {
        at = strchr(at, '\n');
        if (!at) return 0;
        at++;
    }
    size_t length = strlen(key);
    while (*at && *at != '\n') {
        size_t end = strcspn(at, "|\n");
        if (end > length && !strncmp(at, key, length) && at[length] == '=') {
            snprintf(out, size, "%.*s", (int)(end - length - 1), at + length + 1);
            return 1;
        }
        at += end;
        if (*at == '|') at++;
    }
    return 0;
}

/* Whether the row lists `key` among the fields that answer NotSupported. */
static inline int missing(int row, const char *key) {
    char list[128];
    if (!field(row, "missing", list, sizeof list)) return 0;
    for (char *word = strtok(list, ","); word; word = strtok(NULL, ","))
        if (!strcmp(word, key)) return 1;
    return 0;
}

/* "12.8" → 12080 */
static inline int cuda_number(void) {
    int major = 0, minor = 0;
    sscanf(setting("STAND_IN_CUDA", "13.0"), "%d.%d", &major, &minor);
    return major * 1000 + minor * 10;
}
#endif
