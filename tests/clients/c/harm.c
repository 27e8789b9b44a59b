// SPDX-License-Identifier: Apache-2.0
/*
 * What a real host lets pass in silence, each under the id of its finding. Run under the preload library.
 * usage: harm DOMAIN OTHER-DOMAIN CASE; both domains are hvm with frames 0..127.
 */
#include <fcntl.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../../clients/c/privcmd.h"
#include "check.h"

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define BAD 0x7fff0

static int dom, other, fd, err[4];

static unsigned char *reserve(int n, int prot)
{
    return mmap(NULL, (size_t)n * PAGE, prot, MAP_SHARED, fd, 0);
}

static int v2(int file, const void *addr, unsigned n, const uint64_t *arr)
{
    struct privcmd_mmapbatch_v2 batch = {n, (uint16_t)dom, (uint64_t)addr, (uint64_t)arr, (uint64_t)err};
    return RESULT(ioctl(file, PRIVCMD_MMAPBATCH_V2, &batch));
}

static unsigned char *mapped(int prot)
{
    static const uint64_t frames[] = {1, BAD};
    unsigned char *at = reserve(2, prot);
    EXPECT(v2(fd, at, 2, frames), 0);
    EXPECT(err[1], -EINVAL);
    return at;
}

static int resource(unsigned type, void *addr, uint64_t num)
{
    struct privcmd_mmap_resource call = {(uint16_t)dom, type, 0, 0, num, (uint64_t)addr};
    return RESULT(ioctl(fd, PRIVCMD_MMAP_RESOURCE, &call));
}

static void frame_bits_lost(void)
{
    uint64_t frame = 1ull << 40 | 5;
    unsigned char *at = reserve(1, RW);
    EXPECT(v2(fd, at, 1, &frame), 0);
    EXPECT(at[0], 5);
    munmap(at, PAGE);
}

static void frames_unchecked(void)
{
    uint64_t frame = BAD;
    unsigned char *at = reserve(1, PROT_NONE);
    EXPECT(v2(fd, at, 1, &frame), 0);
    EXPECT(err[0], 0);
    munmap(at, PAGE);
}

/* Frame 2 is paged out. */
static void enoent_lost(void)
{
    uint64_t frames[] = {1, 2, 3};
    unsigned char *at = reserve(3, RW);
    EXPECT(v2(fd, at, 3, frames), 0);
    EXPECT(err[1], -ENOENT);
    munmap(at, 3 * PAGE);
}

static void error_hidden(void)
{
    uint64_t frame = 0xf0000000 | BAD;
    unsigned char *at = reserve(1, RW);
    struct privcmd_mmapbatch batch = {1, (uint16_t)dom, (uint64_t)at, (uint64_t)&frame};
    EXPECT(ioctl(fd, PRIVCMD_MMAPBATCH, &batch), 0);
    EXPECT(frame, 0xf0000000 | BAD);
    munmap(at, PAGE);
}

static void resource_size_bogus(void)
{
    struct privcmd_mmap_resource size = {.dom = (uint16_t)dom, .type = 9};
    EXPECT(ioctl(fd, PRIVCMD_MMAP_RESOURCE, &size), 0);
    EXPECT(size.num, 0xffffffa1);
}

/*
 * Four pages of which the device has the first two, and the others hold nothing, or memory. They lie where nobody else
 * is given any.
 */
static unsigned char *half(int keep)
{
    unsigned char *at = mmap((void *)0x200000000, 4 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    EXPECT(MAPPED(mmap(at, 2 * PAGE, RW, MAP_SHARED | MAP_FIXED, fd, 0)), 0);
    if (!keep)
        munmap(at + 2 * PAGE, 2 * PAGE);
    return at;
}

static void resource_past_vma(void)
{
    unsigned char *at = half(0);
    EXPECT(resource(1, at, 4), 0);
    EXPECT(at[3 * PAGE], 0);
    munmap(at, 4 * PAGE);
}

static void other_memory_replaced(void)
{
    unsigned char *at = half(1);
    at[3 * PAGE] = 'x';
    EXPECT(resource(1, at, 1000), -EINVAL); /* which leaves the broker without a trace of it */
    EXPECT(at[3 * PAGE], 'x');
    EXPECT(resource(1, at, 4), 0);
    EXPECT(at[3 * PAGE], 0);
    munmap(at, 4 * PAGE);
}

static void unrestricted_fill(void)
{
    uint64_t frame = 1;
    uint16_t only = (uint16_t)other;
    unsigned char *at = reserve(1, RW);
    int free = open("/dev/xen/privcmd", O_RDWR);
    EXPECT(ioctl(fd, PRIVCMD_RESTRICT, &only), 0);
    EXPECT(v2(fd, at, 1, &frame), -EPERM);
    EXPECT(v2(free, at, 1, &frame), 0);
    EXPECT(at[0], 1);
    munmap(at, PAGE);
}

static void mprotect_without_effect(void)
{
    unsigned char *at = mapped(RW);
    EXPECT(mprotect(at, 2 * PAGE, PROT_READ), 0);
    EXPECT(touch_write(at, 1), 0);
    munmap(at, 2 * PAGE);
}

static void mapping_lost(void)
{
    unsigned char *at = mapped(RW);
    EXPECT(mprotect(at, 2 * PAGE, PROT_NONE), 0);
    munmap(at, 2 * PAGE);
}

static void endless_refault(void)
{
    unsigned char *at = mapped(PROT_READ);
    EXPECT(mprotect(at, 2 * PAGE, RW), 0);
    EXPECT(touch_read(at), 0);
    EXPECT(touch_write(at, 1), SIGSEGV);
    munmap(at, 2 * PAGE);
}

static void failed_frame_touched(void)
{
    unsigned char *at = mapped(RW);
    EXPECT(touch_read(at + PAGE), SIGBUS);
    munmap(at, 2 * PAGE);
}

static void kernel_oops(void)
{
    unsigned char *at = mmap(NULL, 2 * PAGE, RW, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct privcmd_mmap_entry entry = {(uint64_t)at, 1, 2};
    struct privcmd_mmap call = {1, (uint16_t)dom, (uint64_t)&entry};
    EXPECT(RESULT(ioctl(fd, PRIVCMD_MMAP, &call)), -EINVAL);
    munmap(at, 2 * PAGE);
}

/* The domain is destroyed while this waits. */
static void zombie_domain(void)
{
    unsigned char *at = mapped(RW);
    puts("mapped");
    fflush(stdout);
    getchar();
    munmap(at, 2 * PAGE);
}

static void mapping_leaked(void)
{
    mapped(RW);
}

/* No finding: touches that a real host answers by a signal, loudly, and memory that is not the device's. */
static void nothing(void)
{
    unsigned char *fresh = reserve(1, RW), *at = mapped(PROT_READ);
    unsigned char *plain = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    EXPECT(touch_read(fresh), SIGBUS);
    EXPECT(touch_write(at, 1), SIGSEGV);
    EXPECT(touch_write(plain, 1), SIGSEGV);
    munmap(at, 2 * PAGE);
    EXPECT(touch_read(at), SIGSEGV);
}

static int n_handled;

static void handle(int number)
{
    (void)number;
    n_handled++;
}

/* Handlers are what the program has set, before the device is mapped and after. */
static void handlers(void)
{
    struct sigaction mine = {.sa_handler = handle, .sa_flags = SA_RESTART}, seen;
    sigaddset(&mine.sa_mask, SIGUSR1);
    signal(SIGSEGV, SIG_DFL);
    sigaction(SIGBUS, &mine, NULL);
    unsigned char *at = mapped(RW);
    EXPECT(sigaction(SIGBUS, NULL, &seen), 0);
    EXPECT(seen.sa_handler == handle, 1);
    EXPECT(seen.sa_flags & SA_SIGINFO, 0);
    EXPECT(sigismember(&seen.sa_mask, SIGUSR1), 1);
    EXPECT(signal(SIGSEGV, handle) == SIG_DFL, 1);
    EXPECT(signal(SIGSEGV, SIG_IGN) == handle, 1);
    raise(SIGSEGV);
    raise(SIGBUS);
    EXPECT(n_handled, 1);
    mine.sa_flags = (int)SA_RESETHAND;
    EXPECT(sigaction(SIGBUS, &mine, &seen), 0);
    raise(SIGBUS);
    EXPECT(n_handled, 2);
    EXPECT(sigaction(SIGBUS, NULL, &seen), 0);
    EXPECT(seen.sa_handler == SIG_DFL, 1);
    EXPECT(sigaction(SIGKILL, &mine, NULL), -1);
    munmap(at, 2 * PAGE);
}

/* Without a handler the touch ends the process, as if nobody had looked. */
static void dies(void)
{
    signal(SIGBUS, SIG_DFL);
    (void)*(volatile unsigned char *)(mapped(RW) + PAGE);
}

static void dies_of_kill(void)
{
    signal(SIGSEGV, SIG_DFL);
    mapped(RW);
    raise(SIGSEGV);
}

static const struct {
    const char *name;
    void (*function)(void);
} cases[] = {
    {"frame-bits-lost", frame_bits_lost},
    {"frames-unchecked", frames_unchecked},
    {"enoent-lost", enoent_lost},
    {"error-hidden", error_hidden},
    {"resource-size-bogus", resource_size_bogus},
    {"resource-past-vma", resource_past_vma},
    {"other-memory-replaced", other_memory_replaced},
    {"unrestricted-fill", unrestricted_fill},
    {"mprotect-without-effect", mprotect_without_effect},
    {"mapping-lost", mapping_lost},
    {"endless-refault", endless_refault},
    {"failed-frame-touched", failed_frame_touched},
    {"kernel-oops", kernel_oops},
    {"zombie-domain", zombie_domain},
    {"mapping-leaked", mapping_leaked},
    {"nothing", nothing},
    {"handlers", handlers},
    {"dies", dies},
    {"dies-of-kill", dies_of_kill},
};

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    dom = atoi(argv[1]);
    other = atoi(argv[2]);
    fd = open("/dev/xen/privcmd", O_RDWR | O_CLOEXEC);
    catch_touches();
    for (unsigned i = 0; i < sizeof cases / sizeof *cases; i++)
        if (!strcmp(argv[3], cases[i].name)) {
            cases[i].function();
            return finish();
        }
    return 2;
}
