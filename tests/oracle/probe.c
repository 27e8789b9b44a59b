// SPDX-License-Identifier: Apache-2.0
/* Ground-truth probe for /dev/xen/privcmd foreign mappings.
 * Runs as root in a Xen dom0.  Creates its own target domains with libxenctrl,
 * runs every case in a forked child with a time limit, prints one JSON object
 * a line to the file given as argv[2].
 * usage: probe <pv|hvm|shadow|pvh> <outfile> [case-prefix ...] [-case-prefix ...]
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#define __XEN_TOOLS__ 1
#include <xenctrl.h>
#include <xenforeignmemory.h>
#include <xendevicemodel.h>
#include <xencall.h>
#include <xen/memory.h>
#include <xen/vm_event.h>
#include <xen/hvm/hvm_op.h>
#include <xen/hvm/params.h>
#include <xen/sys/privcmd.h>

#define PG 4096UL
#define NFR 128              /* ordinary frames of each target domain */
#define SENT 0x5a5a5a5a
#define DEV "/dev/xen/privcmd"
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif

enum { T_PV, T_HVM, T_SHADOW, T_PVH };
static const char *tname[] = { "pv", "hvm-hap", "hvm-shadow", "pvh-hap" };
static int ttype;
static xc_interface *xch;
static int outfd;
struct dom { uint32_t id; int type; int tag; xen_pfn_t fr[NFR]; int alive; };
static struct dom A, B;      /* A: main target, B: second target */
static xen_pfn_t max_mfn;
static const char *curcase;
static char d0kind[16] = "?", kver[32] = "?"; static int d0pvh;

/* ------------------------------------------------------------ json out -- */
static char jb[1 << 18]; static int jn, jfirst;
static void jp(const char *f, ...)
{ va_list a; va_start(a, f); jn += vsnprintf(jb + jn, sizeof jb - jn, f, a); va_end(a); if (jn > (int)sizeof jb - 1) jn = sizeof jb - 1; }
static void jk(const char *k) { jp("%s\"%s\":", jfirst ? "" : ",", k); jfirst = 0; }
static void jstrv(const char *s)
{ jp("\""); for (; *s; s++) { unsigned char c = *s; if (c == '"' || c == '\\') jp("\\%c", c); else if (c < 32 || c > 126) jp("\\u%04x", c); else jp("%c", c); } jp("\""); }
static void js(const char *k, const char *f, ...)
{ char t[4096]; va_list a; va_start(a, f); vsnprintf(t, sizeof t, f, a); va_end(a); jk(k); jstrv(t); }
static void ji(const char *k, long long v) { jk(k); jp("%lld", v); }
static void jbegin(const char *sub)
{ jn = 0; jfirst = 1; jp("{"); js("config", "%s", getenv("ORACLE_CFG") ? getenv("ORACLE_CFG") : "?"); js("dom0", "%s", d0kind); js("linux", "%s", kver); js("target", "%s", tname[ttype]); js("case", "%s", curcase); if (sub) js("step", "%s", sub); }
static void jend(void) { jp("}\n"); if (write(outfd, jb, jn) < 0) perror("write"); fsync(outfd); }

static const char *en(int e)
{
    static char t[16];
    if (!e) return "0";
    const char *n = strerrorname_np(e);
    if (n) return n;
    snprintf(t, sizeof t, "E%d", e); return t;
}
static void jret(long r, int e) { ji("ret", r); js("errno", "%s", r < 0 ? en(e) : "0"); }
static void jerrs(const char *k, const int *e, int n)
{
    int i; jk(k); jp("[");
    if (n > 40) { /* run lengths */
        for (i = 0; i < n; ) { int j = i; while (j < n && e[j] == e[i]) j++;
            jp("%s\"%s*%d\"", i ? "," : "", e[i] == SENT ? "untouched" : e[i] == 0 ? "0" : e[i] < 0 ? en(-e[i]) : "?", j - i); i = j; }
    } else for (i = 0; i < n; i++) {
        if (e[i] == (int)SENT) jp("%s\"untouched\"", i ? "," : "");
        else if (e[i] == 0) jp("%s0", i ? "," : "");
        else if (e[i] < 0 && e[i] > -4096) jp("%s\"-%s\"", i ? "," : "", en(-e[i]));
        else jp("%s\"0x%x\"", i ? "," : "", (unsigned)e[i]);
    }
    jp("]");
}

/* -------------------------------------------------------- fault capture -- */
static sigjmp_buf sjb; static volatile int sig_no, sig_code; static volatile unsigned long sig_addr;
static void onsig(int s, siginfo_t *i, void *u) { sig_no = s; sig_code = i->si_code; sig_addr = (unsigned long)i->si_addr; siglongjmp(sjb, 1); }
static void catchsig(void)
{ struct sigaction sa = { .sa_sigaction = onsig, .sa_flags = SA_SIGINFO | SA_NODEFER }; sigaction(SIGBUS, &sa, 0); sigaction(SIGSEGV, &sa, 0); sigaction(SIGALRM, &sa, 0); }
static const char *signame(int s, int code)
{
    static char t[64]; const char *c = "?";
    if (s == SIGBUS) c = code == BUS_ADRERR ? "BUS_ADRERR" : code == BUS_ADRALN ? "BUS_ADRALN" : code == BUS_OBJERR ? "BUS_OBJERR" : "code?";
    else if (s == SIGSEGV) c = code == SEGV_MAPERR ? "SEGV_MAPERR" : code == SEGV_ACCERR ? "SEGV_ACCERR" : "code?";
    else if (s == SIGALRM) { snprintf(t, sizeof t, "HANG(refaults forever)"); return t; }
    if (!strcmp(c, "code?")) snprintf(t, sizeof t, "SIG%s/%d", sigabbrev_np(s), code);
    else snprintf(t, sizeof t, "SIG%s/%s", sigabbrev_np(s), c);
    return t;
}
#define MAGIC 0x4f5241434c450000ULL
static uint64_t pat(int tag, int idx, int w) { return w == 0 ? MAGIC | tag : w == 1 ? (uint64_t)idx : ((uint64_t)tag << 56) ^ ((uint64_t)idx << 32) ^ (w * 0x9e3779b97f4a7c15ULL); }
static void fillpat(uint64_t *p, int tag, int idx) { for (int w = 0; w < 511; w++) p[w] = pat(tag, idx, w); p[511] = 0; }

/* what a read of the whole page shows */
static const char *view(const void *page)
{
    static char t[8][64]; static int r; char *o = t[r++ & 7];
    static uint64_t copy[512];
    if (sigsetjmp(sjb, 1)) { alarm(0); snprintf(o, 64, "%s%s", signame(sig_no, sig_code), sig_no != SIGALRM && (sig_addr & ~4095UL) != ((unsigned long)page & ~4095UL) ? "!addr" : ""); return o; }
    alarm(3);
    for (int i = 0; i < 512; i++) copy[i] = ((volatile const uint64_t *)page)[i];
    alarm(0);
    if ((copy[0] & ~0xffffULL) == MAGIC) {
        int tag = copy[0] & 0xffff, idx = copy[1], bad = 0;
        for (int w = 0; w < 511; w++) bad += copy[w] != pat(tag, idx, w);
        snprintf(o, 64, "%c:g%d%s%s", tag, idx, bad ? "(corrupt)" : "", "");
        if (copy[511]) snprintf(o + strlen(o), 64 - strlen(o), "+w%llx", (unsigned long long)copy[511]);
        return o;
    }
    int z = 1, f = 1;
    for (int i = 0; i < 512; i++) { z &= copy[i] == 0; f &= copy[i] == ~0ULL; }
    if (z) return "zero"; if (f) return "ff";
    snprintf(o, 64, "other:%016llx", (unsigned long long)copy[0]); return o;
}
static const char *wr(void *page, uint64_t v) /* write the last word of a page */
{
    static char t[64];
    if (sigsetjmp(sjb, 1)) { alarm(0); snprintf(t, 64, "%s", signame(sig_no, sig_code)); return t; }
    alarm(3);
    ((volatile uint64_t *)page)[511] = v;
    alarm(0);
    return "ok";
}
static void jpages(const char *k, const void *a, int n)
{
    jk(k); jp("[");
    if (n <= 40) for (int i = 0; i < n; i++) { jp("%s", i ? "," : ""); jstrv(view((const char *)a + i * PG)); }
    else { /* count kinds */
        int ok = 0, bus = 0, segv = 0, oth = 0;
        for (int i = 0; i < n; i++) { const char *v = view((const char *)a + i * PG); if (v[1] == ':') ok++; else if (!strncmp(v, "SIGBUS", 6)) bus++; else if (!strncmp(v, "SIGSEGV", 7)) segv++; else oth++; }
        jp("\"frames=%d sigbus=%d sigsegv=%d other=%d\"", ok, bus, segv, oth);
    }
    jp("]");
}
static void jwrites(const char *k, void *a, int n, uint64_t v)
{ jk(k); jp("["); for (int i = 0; i < n; i++) { jp("%s", i ? "," : ""); jstrv(wr((char *)a + i * PG, v)); } jp("]"); }

/* -------------------------------------------------------------- labels -- */
static const char *lab(xen_pfn_t p)
{
    static char t[8][40]; static int r; char *o = t[r++ & 7];
    for (int i = 0; i < NFR; i++) if (A.alive && A.fr[i] == p) { snprintf(o, 40, "A:g%d", i); return o; }
    for (int i = 0; i < NFR; i++) if (B.alive && B.type == T_PV && B.fr[i] == p) { snprintf(o, 40, "B:g%d", i); return o; }
    snprintf(o, 40, "0x%llx", (unsigned long long)p); return o;
}
static void jarr(const char *k, const xen_pfn_t *a, int n)
{ jk(k); jp("["); if (n > 40) { jp("\"%s ... (%d)\"", lab(a[0]), n); n = 0; } for (int i = 0; i < n; i++) { jp("%s", i ? "," : ""); jstrv(lab(a[i])); } jp("]"); }

/* ------------------------------------------------------------- helpers -- */
static int opn(void) { int fd = open(DEV, O_RDWR | O_CLOEXEC); if (fd < 0) { perror(DEV); exit(3); } return fd; }
static void *vma(int fd, int n, int prot, int flags)
{ void *p = mmap(0, n * PG, prot, flags, fd, 0); if (p == MAP_FAILED) { jbegin("mmap"); js("errno", "%s", en(errno)); jend(); exit(4); } return p; }
#define RW (PROT_READ | PROT_WRITE)
static void *vmaRW(int fd, int n) { return vma(fd, n, RW, MAP_SHARED); }

static int v2(int fd, void *addr, unsigned num, int dom, const xen_pfn_t *arr, int *err)
{ privcmd_mmapbatch_v2_t m = { .num = num, .dom = dom, .addr = (unsigned long)addr, .arr = arr, .err = err }; return ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH_V2, &m); }
static int v1(int fd, void *addr, int num, int dom, xen_pfn_t *arr)
{ privcmd_mmapbatch_t m = { .num = num, .dom = dom, .addr = (unsigned long)addr, .arr = arr }; return ioctl(fd, IOCTL_PRIVCMD_MMAPBATCH, &m); }
static int mm(int fd, int num, int dom, privcmd_mmap_entry_t *e)
{ privcmd_mmap_t m = { .num = num, .dom = dom, .entry = e }; return ioctl(fd, IOCTL_PRIVCMD_MMAP, &m); }
static int res(int fd, int dom, unsigned type, unsigned id, unsigned idx, uint64_t *num, void *addr)
{ privcmd_mmap_resource_t m = { .dom = dom, .type = type, .id = id, .idx = idx, .num = *num, .addr = (unsigned long)addr }; int r = ioctl(fd, IOCTL_PRIVCMD_MMAP_RESOURCE, &m); int e = errno; *num = m.num; errno = e; return r; }

/* run V2 and print everything; shows pages of [show,show+nshow) after */
static int V2(const char *step, int fd, void *addr, unsigned num, int dom, const xen_pfn_t *arr, int narr, void *show, int nshow)
{
    int cap = narr + 2; int *err = malloc(cap * sizeof(int)); for (int i = 0; i < cap; i++) err[i] = SENT;
    errno = 0; int r = v2(fd, addr, num, dom, arr, err), e = errno;
    jbegin(step); js("ioctl", "MMAPBATCH_V2"); ji("num", num); ji("domid", dom); jarr("arr", arr, narr); jret(r, e); jerrs("err", err, narr);
    if (err[narr] != SENT) js("overrun", "err[num] was written");
    if (nshow) jpages("pages", show, nshow);
    jend(); free(err); return r;
}
static int V1(const char *step, int fd, void *addr, int num, int dom, const xen_pfn_t *arr0, int narr, void *show, int nshow)
{
    xen_pfn_t *arr = malloc(narr * 8 + 8); memcpy(arr, arr0, narr * 8); arr[narr] = 0x1234;
    errno = 0; int r = v1(fd, addr, num, dom, arr), e = errno;
    jbegin(step); js("ioctl", "MMAPBATCH"); ji("num", num); ji("domid", dom); jarr("arr", arr0, narr); jret(r, e);
    jk("arr_xor_after"); jp("["); for (int i = 0; i < narr && i < 40; i++) jp("%s\"0x%llx\"", i ? "," : "", (unsigned long long)(arr[i] ^ arr0[i])); jp("]");
    jk("arr_raw_after"); jp("["); for (int i = 0; i < narr && i < 40; i++) jp("%s\"0x%llx\"", i ? "," : "", (unsigned long long)arr[i]); jp("]");
    if (nshow) jpages("pages", show, nshow);
    jend(); free(arr); return r;
}
static int MM(const char *step, int fd, int num, int dom, privcmd_mmap_entry_t *e, int ne, void *base, void *show, int nshow)
{
    errno = 0; int r = mm(fd, num, dom, e), er = errno;
    jbegin(step); js("ioctl", "MMAP"); ji("num", num); ji("domid", dom); jk("entries"); jp("[");
    for (int i = 0; i < ne; i++) jp("%s{\"va\":\"vma%+lld\",\"mfn\":\"%s\",\"npages\":%llu}", i ? "," : "", (long long)(e[i].va - (unsigned long)base), lab(e[i].mfn), (unsigned long long)e[i].npages);
    jp("]"); jret(r, er); if (nshow) jpages("pages", show, nshow); jend(); return r;
}
static xen_pfn_t BAD(void) /* a frame number that certainly cannot be mapped for A */
{ return ttype == T_PV ? max_mfn + 0x100 : 0x7fff0; }

/* --------------------------------------------------------- domain make -- */
static int mkdom(struct dom *d, int type, int tag)
{
    struct xen_domctl_createdomain c; memset(&c, 0, sizeof c); memset(d, 0, sizeof *d);
    c.handle[0] = tag; c.max_vcpus = 1; c.max_evtchn_port = 1023; c.max_grant_frames = 4; c.max_maptrack_frames = 4; c.grant_opts = XEN_DOMCTL_GRANT_version(2);
    if (type != T_PV) {
        c.flags = XEN_DOMCTL_CDF_hvm | (type != T_SHADOW ? XEN_DOMCTL_CDF_hap : 0);
        c.arch.emulation_flags = type == T_PVH ? XEN_X86_EMU_LAPIC : (XEN_X86_EMU_ALL & ~XEN_X86_EMU_VPCI);
    }
    d->id = 0; d->type = type; d->tag = tag;
    int r = xc_domain_create(xch, &d->id, &c);
    if (r) { jbegin("domain_create"); jret(r, errno); js("kind", "%s", tname[type]); jend(); return -1; }
    if (type != T_PV && xc_set_paging_mempool_size(xch, d->id, 16 << 20)) fprintf(stderr, "paging mempool: %s\n", strerror(errno));
    xc_domain_setmaxmem(xch, d->id, (NFR + 2048) * 4);
    xc_domain_max_vcpus(xch, d->id, 1);
    for (int i = 0; i < NFR; i++) d->fr[i] = i;
    if (type == T_PV) { xen_pfn_t base = 0; r = xc_domain_populate_physmap_exact(xch, d->id, 1, 7 /* 128 machine-contiguous frames */, 0, &base); for (int i = 0; i < NFR; i++) d->fr[i] = base + i; }
    else r = xc_domain_populate_physmap_exact(xch, d->id, NFR, 0, 0, d->fr);
    if (r) { jbegin("populate"); jret(r, errno); jend(); return -1; }
    d->alive = 1;
    int fd = opn(); void *p = vmaRW(fd, NFR); int *err = calloc(NFR, 4);
    r = v2(fd, p, NFR, d->id, d->fr, err);
    int bad = 0; for (int i = 0; i < NFR; i++) bad += !!err[i];
    if (r || bad) { jbegin("fill"); jret(r, errno); ji("bad", bad); jend(); return -1; }
    for (int i = 0; i < NFR; i++) fillpat((uint64_t *)((char *)p + i * PG), tag, i);
    munmap(p, NFR * PG); close(fd); free(err);
    return 0;
}
static void jdominfo(const char *k, uint32_t id)
{
    xc_domaininfo_t di; jk(k);
    errno = 0; int r = xc_domain_getinfolist(xch, id, 1, &di);
    if (r < 0) { jp("\"getinfolist failed %s\"", en(errno)); return; }
    if (r != 1 || di.domain != id) { jp("\"absent\""); return; }
    jp("{\"flags\":\"%s%s%s%s\",\"tot_pages\":%llu,\"max_pages\":%llu,\"outstanding_pages\":%llu}", di.flags & XEN_DOMINF_dying ? "dying " : "", di.flags & XEN_DOMINF_paused ? "paused " : "", di.flags & XEN_DOMINF_hvm_guest ? "hvm " : "", di.flags & XEN_DOMINF_shutdown ? "shutdown " : "",
       (unsigned long long)di.tot_pages, (unsigned long long)di.max_pages, (unsigned long long)di.outstanding_pages);
}
static void jmaps(const char *k, void *a, int n) /* /proc/self/maps lines overlapping the range */
{
    FILE *f = fopen("/proc/self/maps", "r"); char l[512]; jk(k); jp("["); int c = 0; unsigned long lo = (unsigned long)a, hi = lo + n * PG;
    while (f && fgets(l, sizeof l, f)) { unsigned long s, e; char pr[8], rest[300] = ""; unsigned long off, ino; char dv[16];
        if (sscanf(l, "%lx-%lx %7s %lx %15s %lu %299[^\n]", &s, &e, pr, &off, dv, &ino, rest) < 5 || e <= lo || s >= hi) continue;
        char *nm = rest; while (*nm == ' ') nm++;
        jp("%s\"vma%+ld..%+ld pages %s off=0x%lx %s\"", c++ ? "," : "", ((long)s - (long)lo) / 4096, ((long)e - (long)lo) / 4096, pr, off, nm); }
    if (f) fclose(f); jp("]");
}
static void jvmflags(const char *k, void *a)
{
    FILE *f = fopen("/proc/self/smaps", "r"); char l[512]; int in = 0; jk(k);
    while (f && fgets(l, sizeof l, f)) { unsigned long s, e; char c;
        if (sscanf(l, "%lx-%lx %c", &s, &e, &c) == 3) in = (unsigned long)a >= s && (unsigned long)a < e;
        else if (in && !strncmp(l, "VmFlags:", 8)) { l[strcspn(l, "\n")] = 0; jstrv(l + 9); fclose(f); return; } }
    if (f) fclose(f); jp("null");
}

static void jsmaps(const char *k, void *a) /* Size and Rss lines of smaps */
{
    FILE *f = fopen("/proc/self/smaps", "r"); char l[512]; int in = 0; jk(k); jp("\"");
    while (f && fgets(l, sizeof l, f)) { unsigned long s, e; char c; long kb;
        if (sscanf(l, "%lx-%lx %c", &s, &e, &c) == 3) in = (unsigned long)a >= s && (unsigned long)a < e;
        else if (in && (sscanf(l, "Size: %ld", &kb) == 1)) jp("Size=%ldkB ", kb);
        else if (in && (sscanf(l, "Rss: %ld", &kb) == 1)) jp("Rss=%ldkB ", kb);
        else if (in && (sscanf(l, "Pss: %ld", &kb) == 1)) jp("Pss=%ldkB ", kb); }
    if (f) fclose(f); jp("\"");
}
#include "cases.h"

/* ---------------------------------------------------------------- main -- */
static int kmsg = -1; static uint32_t xidx;
static void drainlogs(int print)
{
    char b[8192]; int n, faults = 0, c = 0; static char xl[65536];
    jbegin("logs"); jk("kernel"); jp("[");
    while (kmsg >= 0 && (n = read(kmsg, b, sizeof b - 1)) > 0) { b[n] = 0; char *m = strchr(b, ';'); if (!m) continue; m++; m[strcspn(m, "\n")] = 0;
        if (strstr(m, "privcmd_fault")) { faults++; continue; }
        if (c < 40 && !strstr(m, "kmsg") && !strstr(m, "crng init")) { jp("%s", c++ ? "," : ""); jstrv(m); } }
    jp("]"); if (faults) ji("privcmd_fault_lines", faults);
    unsigned int nc = sizeof xl - 1; int x = 0;
    jk("xen"); jp("[");
    if (!xc_readconsolering(xch, xl, &nc, 0, 1, &xidx)) { xl[nc] = 0; for (char *s = strtok(xl, "\n"); s && x < 30; s = strtok(0, "\n")) { jp("%s", x++ ? "," : ""); jstrv(s); } }
    jp("]");
    if (print && (c || x)) jend();
}
int main(int argc, char **argv)
{
    setvbuf(stdout, 0, _IONBF, 0);
    if (argc < 3) return 2;
    for (ttype = 0; ttype < 4 && strcmp(argv[1], (const char *[]){ "pv", "hvm", "shadow", "pvh" }[ttype]); ttype++);
    if (ttype > 3) return 2;
    outfd = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_NOCTTY, 0600); if (outfd < 0) { perror(argv[2]); return 2; }
    kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK); if (kmsg >= 0) lseek(kmsg, 0, SEEK_END);
    xch = xc_interface_open(0, 0, 0); if (!xch) { perror("xc_interface_open"); return 2; }
    unsigned long mx; if (!xc_maximum_ram_page(xch, &mx)) max_mfn = mx;
    { FILE *f = fopen("/sys/hypervisor/guest_type", "r"); if (f) { if (fgets(d0kind, sizeof d0kind, f)) d0kind[strcspn(d0kind, "\n")] = 0; fclose(f); } d0pvh = !strcmp(d0kind, "PVH"); struct utsname u; uname(&u); char *q = strstr(u.version, "Debian "); snprintf(kver, sizeof kver, "%s", q ? q + 7 : u.release); kver[strcspn(kver, " ")] = 0; }
    curcase = "setup"; catchsig();
    drainlogs(0);
    if (mkdom(&A, ttype, 'A') || mkdom(&B, ttype, 'B')) return 1;
    jbegin("domains"); ji("A", A.id); ji("B", B.id); jdominfo("info", A.id); js("max_mfn", "0x%llx", (unsigned long long)max_mfn); jend();
    for (struct tcase *t = tcases; t->name; t++) {
        int want = 1, pos = 0, hit = 0;
        for (int i = 3; i < argc; i++) { if (argv[i][0] == '-') { if (!strncmp(t->name, argv[i] + 1, strlen(argv[i]) - 1)) want = 0; } else { pos = 1; hit |= !strncmp(t->name, argv[i], strlen(argv[i])); } }
        if (pos && !hit) want = 0;
        if (!want || (t->only && !(t->only & (1 << ttype)))) continue;
        curcase = t->name;
        printf("[%s] %s\n", tname[ttype], t->name);
        struct timespec a, b; clock_gettime(CLOCK_MONOTONIC, &a);
        int limit = t->secs ? t->secs : 40;
        if (t->parent) { t->fn(); } else {
            pid_t p = fork();
            if (!p) { catchsig(); xch = xc_interface_open(0, 0, 0); t->fn(); _exit(0); }
            int st = 0, w = 0; for (int i = 0; i < limit * 50; i++) { w = waitpid(p, &st, WNOHANG); if (w == p) break; usleep(20000); }
            if (w != p) { jbegin("child"); js("result", "still running after %d s, killed", limit); jend(); kill(p, SIGKILL); for (int i = 0; i < 250; i++) { w = waitpid(p, &st, WNOHANG); if (w == p) break; usleep(20000); }
                if (w != p) { jbegin("child"); js("result", "unkillable 5 s after SIGKILL"); jend(); } }
            else if (!WIFEXITED(st) || WEXITSTATUS(st)) { jbegin("child"); if (WIFSIGNALED(st)) js("result", "killed by signal %d", WTERMSIG(st)); else js("result", "exit %d", WEXITSTATUS(st)); jend(); }
        }
        clock_gettime(CLOCK_MONOTONIC, &b);
        drainlogs(1);
    }
    curcase = "teardown";
    int r1 = xc_domain_destroy(xch, A.id), r2 = xc_domain_destroy(xch, B.id);
    jbegin(0); ji("destroyA", r1); ji("destroyB", r2); jdominfo("A", A.id); jdominfo("B", B.id); jend();
    return 0;
}
