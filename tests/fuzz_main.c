/* SPDX-License-Identifier: Apache-2.0 */
/* Replays a corpus through a fuzz target, for machines and compilers without libFuzzer.  Each file
 * is tried whole, and cut at every length up to 4 KiB; then mutated copies with a fixed seed. */
#include <dirent.h>

#include "base/base.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint64_t next(uint64_t *s)
{
    *s ^= *s << 13;
    *s ^= *s >> 7;
    *s ^= *s << 17;
    return *s;
}

/* A copy on the heap of exact size, so that a sanitizer sees one byte too far. */
static void once(const uint8_t *p, size_t n)
{
    uint8_t *copy = malloc(n ? n : 1);

    if (!copy)
        abort();
    if (n)
        memcpy(copy, p, n);
    LLVMFuzzerTestOneInput(copy, n);
    free(copy);
}

static void play(uint8_t *p, size_t n)
{
    uint64_t seed = 0x9e3779b97f4a7c15u;

    for (size_t cut = 0; cut <= n && cut < 4096; cut++)
        once(p, cut);
    once(p, n);
    for (int i = 0; n && i < 2000; i++) {
        size_t at = (size_t)(next(&seed) % n);
        uint8_t was = p[at];

        p[at] = (uint8_t)next(&seed);
        once(p, n);
        if (i % 4)
            p[at] = was;
    }
}

int main(int argc, char **argv)
{
    int files = 0;

    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        struct dirent *f;

        while (d && (f = readdir(d))) {
            char path[4096];
            snprintf(path, sizeof(path), "%s/%s", argv[i], f->d_name);
            FILE *in = f->d_name[0] == '.' ? NULL : fopen(path, "re");
            if (!in)
                continue;
            static uint8_t data[1 << 20];
            size_t n = fread(data, 1, sizeof(data), in);
            fclose(in);
            play(data, n);
            files++;
        }
        if (d)
            closedir(d);
    }
    printf("%d files replayed\n", files);
    return files == 0;
}
