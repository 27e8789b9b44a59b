// SPDX-License-Identifier: Apache-2.0
/* Does what a sanitizer finds, on a host that it looks at first. usage: sanitized [leak | overflow | undefined | race | child] */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int shared;

static void *change(void *unused)
{
    shared++;
    return unused;
}

static int sum_with(int number)
{
    int most = 0x7fffffff;
    return most + number;
}

int main(int argc, char **argv)
{
    const char *mistake = argc > 1 ? argv[1] : "";
    char line[16] = "";
    FILE *file = fopen("/sys/hypervisor/type", "r");
    if (file && fgets(line, sizeof line, file))
        fputs(line, stdout);
    if (file)
        fclose(file);
    if (!strcmp(mistake, "leak")) {
        volatile char *lost = malloc(77);
        lost[0] = 1;
        lost = NULL;
    } else if (!strcmp(mistake, "overflow")) {
        volatile char *few = malloc(8);
        few[argc + 6] = 1;
        free((void *)few);
    } else if (!strcmp(mistake, "undefined")) {
        printf("%d\n", sum_with(argc));
    } else if (!strcmp(mistake, "race")) {
        pthread_t threads[2];
        for (int i = 0; i < 2; i++)
            pthread_create(&threads[i], NULL, change, NULL);
        for (int i = 0; i < 2; i++)
            pthread_join(threads[i], NULL);
    } else if (!strcmp(mistake, "child")) {
        fflush(stdout);
        return system("grep -o '/lib[a-z]*san[^ ]*' /proc/self/maps; cat /sys/hypervisor/type; echo $LD_PRELOAD");
    }
    return 0;
}
